//! The graph drawn.

use super::graph::{Graph, NodeKind};
use super::layout::{Layout, Link, Size, Spot, layout};
use std::fmt::Write;

/// Widths of a character in the fonts below, with room for those that are wider.
const NAME_WIDTH: f64 = 8.6;
const NOTE_WIDTH: f64 = 6.6;
const CODE_WIDTH: f64 = 7.0;

const LINE: f64 = 15.0;

/// Services of a label in full; more are counted.
const SHOWN: usize = 5;

/// Colours by the reader's choice. The page sets the same variables for all of itself.
const COLORS: &str = "\
:root{--ink:#1b1f24;--faint:#57606a;--line:#8c959f;--paper:#fff;--box:#f6f8fa;--accent:#0550ae}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#9da7b1;--line:#6e7681;--paper:#0d1117;--box:#161b22;--accent:#79c0ff}}
";

/// What the drawing's parts look like.
pub(super) const STYLE: &str = "\
.graph text{fill:var(--ink);font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif}
.graph .name{font-size:14px;font-weight:600}
.graph .note{font-size:11px;fill:var(--faint)}
.graph .code{font-size:11.5px;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.graph .box{fill:var(--box);stroke:var(--accent);stroke-width:1.5}
.graph .every .box{stroke-width:3}
.graph .addresses .box{stroke:var(--line);stroke-dasharray:5 3}
.graph .way{fill:none;stroke:var(--line);stroke-width:1.3}
.graph .head{fill:var(--line)}
.graph .label{fill:var(--paper)}
.graph .edge:hover .way{stroke:var(--accent);stroke-width:2.2}
.graph .edge:hover .code{fill:var(--accent)}
";

/// A file of its own.
pub(super) fn standalone(graph: &Graph) -> String {
    let style = format!("{COLORS}{STYLE}svg{{background:var(--paper)}}");
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", drawing(graph, &style))
}

/// The element, for a page that has the colours and the style.
pub(super) fn inline(graph: &Graph) -> String {
    drawing(graph, "")
}

fn drawing(graph: &Graph, style: &str) -> String {
    let within = |node: usize| graph.edges.iter().find(|edge| edge.from == node && edge.to == node);
    let sizes: Vec<Size> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| {
            let inner = within(index).map(|edge| within_text(&edge.services));
            let lines = [
                width(&node.name, NAME_WIDTH),
                width(&node.note, NOTE_WIDTH),
                inner.as_ref().map_or(0.0, |text| width(text, CODE_WIDTH)),
            ];
            let height = 14.0
                + LINE
                    * (1.0
                        + f64::from(u8::from(!node.note.is_empty()))
                        + f64::from(u8::from(inner.is_some())));
            Size { width: lines.into_iter().fold(0.0, f64::max) + 24.0, height: height + 6.0 }
        })
        .collect();
    let edges: Vec<_> = graph.edges.iter().filter(|edge| edge.from != edge.to).collect();
    let links: Vec<Link> = edges
        .iter()
        .map(|edge| {
            let lines = label(&edge.services);
            let width = lines.iter().map(|line| width(line, CODE_WIDTH)).fold(0.0, f64::max);
            let label = Size { width: width + 8.0, height: LINE * lines.len() as f64 + 4.0 };
            Link { from: edge.from, to: edge.to, label }
        })
        .collect();
    let placed = layout(&sizes, &links);
    let Size { width, height } = placed.size;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" role=\"img\" aria-label=\"Graph of \
         tiers\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">\n"
    );
    if !style.is_empty() {
        let _ = writeln!(svg, "<style>\n{style}\n</style>");
    }
    for (index, edge) in edges.iter().enumerate() {
        svg += &of_edge(&placed, index, &links[index], &label(&edge.services), &edge.allows);
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let class = match node.kind {
            NodeKind::Tier => "tier",
            NodeKind::EveryServer => "every",
            NodeKind::Addresses => "addresses",
        };
        let mut lines = vec![("name", node.name.clone())];
        if !node.note.is_empty() {
            lines.push(("note", node.note.clone()));
        }
        lines.extend(within(index).map(|edge| ("code", within_text(&edge.services))));
        svg += &of_node(&placed.nodes[index], class, &lines);
    }
    svg + "</svg>\n"
}

/// What members of a tier may open to each other.
fn within_text(services: &[String]) -> String {
    format!("↻ {}", label(services).join(" "))
}

fn label(services: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = services.iter().take(SHOWN).cloned().collect();
    if services.len() > SHOWN {
        lines.push(format!("+{} more", services.len() - SHOWN));
    }
    lines
}

fn width(text: &str, of_character: f64) -> f64 {
    text.chars().count() as f64 * of_character
}

fn of_node(spot: &Spot, class: &str, lines: &[(&str, String)]) -> String {
    let Spot { x, y, size: Size { width, height } } = *spot;
    let (top, middle) = (y - height / 2.0, x + width / 2.0);
    let mut svg = format!(
        "<g class=\"{class}\"><rect class=\"box\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"7\"/>"
    );
    for (index, (class, line)) in lines.iter().enumerate() {
        let baseline = top + 10.0 + LINE * (index as f64 + 0.85);
        let _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{middle:.1}\" y=\"{baseline:.1}\" text-anchor=\"middle\">{}</text>",
            escaped(line)
        );
    }
    svg + "</g>\n"
}

fn of_edge(
    placed: &Layout,
    index: usize,
    link: &Link,
    lines: &[String],
    allows: &[String],
) -> String {
    let (from, to) = (placed.nodes[link.from], placed.nodes[link.to]);
    let rightward = from.x < to.x;
    // Where a spot is entered and left, in the direction that the edge runs.
    let ends = |spot: &Spot| {
        let (left, right) = ((spot.x, spot.y), (spot.x + spot.size.width, spot.y));
        if rightward { (left, right) } else { (right, left) }
    };
    let (_, mut at) = ends(&from);
    let mut path = format!("M{:.1} {:.1}", at.0, at.1);
    let head = if rightward { 7.0 } else { -7.0 };
    let (target, _) = ends(&to);
    let stops = placed.ways[index].iter().map(&ends).map(|(enter, leave)| (enter, Some(leave)));
    for (enter, leave) in stops.chain([((target.0 - head, target.1), None)]) {
        let half = (enter.0 - at.0) / 2.0;
        let _ = write!(
            path,
            "C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
            at.0 + half,
            at.1,
            enter.0 - half,
            enter.1,
            enter.0,
            enter.1
        );
        if let Some(leave) = leave {
            let _ = write!(path, "L{:.1} {:.1}", leave.0, leave.1);
            at = leave;
        }
    }
    let mut svg = format!("<g class=\"edge\"><title>{}</title>", escaped(&allows.join("\n")));
    let _ = write!(svg, "<path class=\"way\" d=\"{path}\"/>");
    let (x, y) = target;
    let back = x - head;
    let _ = write!(
        svg,
        "<path class=\"head\" d=\"M{x:.1} {y:.1}L{back:.1} {:.1}L{back:.1} {:.1}Z\"/>",
        y - 4.0,
        y + 4.0
    );
    if let Some(spot) = placed.ways[index].get(placed.labels[index]) {
        let Size { width, height } = spot.size;
        let (top, middle) = (spot.y - height / 2.0, spot.x + width / 2.0);
        let _ = write!(
            svg,
            "<rect class=\"label\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            spot.x
        );
        for (line, text) in lines.iter().enumerate() {
            let baseline = top + 2.0 + LINE * (line as f64 + 0.75);
            let _ = write!(
                svg,
                "<text class=\"code\" x=\"{middle:.1}\" y=\"{baseline:.1}\" text-anchor=\"middle\">{}</text>",
                escaped(text)
            );
        }
    }
    svg + "</g>\n"
}

/// Text for the inside of an element or of an attribute. What XML can't hold at all becomes a
/// replacement character.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_of_a_policy_is_markup() {
        assert_eq!(escaped("<script>'\"&"), "&lt;script&gt;&#39;&quot;&amp;");
        assert_eq!(escaped("a\u{1b}b"), "a\u{fffd}b");
    }
}
