//! How a diagnostic looks in a terminal: what is wrong, the line with the text underlined, other
//! places, the hint.

use crate::diagnostic::{Diagnostic, Diagnostics, Label, Severity};
use crate::quoting::printable;
use annotate_snippets::{Annotation, AnnotationKind, Element, Level, Origin, Renderer, Snippet};

/// With or without colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// With ANSI escapes.
    Colored,
}

impl Diagnostic {
    /// Several lines, without a newline at the end.
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colored => Renderer::styled(),
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level
            .primary_title(&self.message)
            .elements(self.place.iter().map(|label| element(label, AnnotationKind::Primary)));
        for label in &self.related {
            group = group.element(element(label, AnnotationKind::Context));
            if label.excerpt.is_none() && !label.text.is_empty() {
                group = group.element(Level::NOTE.message(label.text.as_str()));
            }
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        renderer.render(&[group])
    }
}

impl Diagnostics {
    /// All of them, an empty line between any two.
    pub fn render(&self, style: Style) -> String {
        let each: Vec<String> = self.iter().map(|diagnostic| diagnostic.render(style)).collect();
        each.join("\n\n")
    }
}

fn element(label: &Label, kind: AnnotationKind) -> Element<'_> {
    let path = printable(&label.file.to_string_lossy());
    match (&label.excerpt, label.position) {
        (Some(excerpt), Some((line, _))) => {
            // The renderer counts columns itself: what was skipped becomes blanks, which it trims.
            let skipped = excerpt.skipped;
            let text = format!("{}{}", " ".repeat(skipped), excerpt.text);
            let span = excerpt.underline.start + skipped..excerpt.underline.end + skipped;
            let annotation: Annotation<'_> = kind.span(span);
            let annotation = annotation.label(Some(&label.text).filter(|text| !text.is_empty()));
            Snippet::source(text).path(path).line_start(line).annotation(annotation).into()
        }
        (None, Some((line, column))) => Origin::path(path).line(line).char_column(column).into(),
        (_, None) => Origin::path(path).into(),
    }
}
