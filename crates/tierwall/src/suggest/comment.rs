//! Comments of a policy file.

use policy::is_invisible;

/// The longest line.
const WIDTH: usize = 98;

/// A text as lines of comment. Nothing in it can end one.
pub(super) fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        let shown = |c| if is_invisible(c) { '\u{fffd}' } else { c };
        let word: String = word.chars().map(shown).collect();
        if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
            lines += &line;
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line += &word;
    }
    lines + line.trim_end() + "\n"
}

/// Lines of a file, each as a comment.
pub(super) fn commented_out(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_stays_one() {
        assert_eq!(comment("a\n[[allow]]"), "# a\u{fffd}[[allow]]\n");
        let text = comment(&"word ".repeat(60));
        assert!(text.lines().count() > 2);
        assert!(
            text.lines().all(|line| line.starts_with("# word") && line.len() <= WIDTH),
            "{text}"
        );
    }
}
