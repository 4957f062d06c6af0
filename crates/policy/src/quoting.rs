//! What stands in files, as messages quote it: without what moves the cursor, and no longer than can be
//! read.

/// A text from a file without what could move the cursor or hide other text: control characters
/// are escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if is_invisible(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}

/// A message or hint without what could move the cursor, and no longer than can be read: what it
/// quotes of a file may have any length.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 1000;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => printable(&text[..end]) + "…",
        None => printable(text),
    }
}

/// Control characters, and those that change how others are shown: directions, marks without width,
/// separators of lines (Unicode's categories Cc, Cf as far as they occur, Zl, Zp).
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A word from a file, set off from the message around it and cut to a readable length.
pub(crate) fn quote(word: &str) -> String {
    format!("`{}`", cut(word))
}

/// A word from a file, cut to a readable length.
pub(crate) fn cut(word: &str) -> String {
    const LONGEST: usize = 64;
    // Not all of a long one is looked at: each character becomes one at least.
    let start = word.char_indices().nth(LONGEST + 1).map_or(word, |(end, _)| &word[..end]);
    let shown = printable(start);
    match shown.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_from_files_cannot_move_the_cursor() {
        assert_eq!(quote("a\u{1b}[2Jb\u{202e}"), "`a\\u{1b}[2Jb\\u{202e}`");
        assert_eq!(quote(&"x".repeat(65)), format!("`{}…`", "x".repeat(64)));
    }
}
