//! What files may not contain: too many lines, words that we do not use, unfinished work, paths of somebody's machine.
//!
//! The forbidden words stand here in two pieces, so that this file may be checked like the others.

use super::File;

/// Above this a file holds two things.
const LINES_MAX: usize = 600;

/// Whose length is counted.
const CODE: [&str; 4] = [".rs", ".py", ".sh", ".js"];

/// Words that no file contains, in whatever case. As parts of PostgreSQL's names (`postmaster`) they are no words.
const WORDS: [&str; 4] = [concat!("mas", "ter"), concat!("mas", "ters"), concat!("sla", "ve"), concat!("sla", "ves")];

/// What says that something is not finished, in exactly this case.
const UNFINISHED: [&str; 4] =
    [concat!("to", "do!"), concat!("unimplem", "ented!"), concat!("FIX", "ME"), concat!("TO", "DO")];

/// Folders of machines, not of the project.
const MACHINE: [&str; 5] = ["work", "root", "home", "tmp", "Users"];

/// Files that others make, or that must quote others.
const EXEMPT: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

/// All complaints about the content of lines and the length of files.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let ours = files.iter().filter(|file| !EXEMPT.contains(&file.path.as_str()));
    ours.flat_map(|file| length(file).into_iter().chain(lines(file))).collect()
}

fn length(file: &File) -> Option<String> {
    let count = file.text.lines().count();
    let is_code = CODE.iter().any(|ending| file.path.ends_with(ending));
    (is_code && count > LINES_MAX).then(|| format!("{}: {count} lines are more than {LINES_MAX}", file.path))
}

fn lines(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let place = format!("{}:{number}", file.path);
        let found = WORDS.iter().find(|word| has_word(&line.to_ascii_lowercase(), word));
        complaints.extend(found.map(|word| format!("{place}: says {word}; see PostgreSQL's words: primary, standby")));
        let found = UNFINISHED.iter().find(|mark| has_word(line, mark));
        complaints.extend(found.map(|mark| format!("{place}: is not finished: {mark}")));
        let found = MACHINE.iter().find(|folder| has_path(line, folder));
        complaints.extend(found.map(|folder| format!("{place}: names a folder of a machine: /{folder}/")));
    }
    complaints
}

/// Whether `word` stands in `line` between characters that belong to no word. Inside a URL's path it is a name that
/// somebody else gave.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let is_apart = |character: char| !character.is_ascii_alphanumeric();
        before.is_none_or(|character| is_apart(character) && character != '/') && after.is_none_or(is_apart)
    })
}

/// Whether an absolute path in `line` begins with `folder`.
fn has_path(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    let is_inside = |character: char| character.is_ascii_alphanumeric() || "/._-~}".contains(character);
    line.match_indices(&path).any(|(start, _)| !line[..start].ends_with(is_inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> usize {
        check(&[File { path: "some.rs".to_owned(), text: text.to_owned() }]).len()
    }

    #[test]
    fn words_are_whole_words() {
        assert_eq!(complaints(&format!("the {} and its_{}_key", WORDS[0].to_uppercase(), WORDS[2])), 1);
        assert_eq!(complaints(&format!("post{0}, {0}piece, git/blob/{0}/x", WORDS[0])), 0);
    }

    #[test]
    fn unfinished_work_and_machines_are_found() {
        assert_eq!(complaints(&format!("fn f() {{ {}() }}", UNFINISHED[0])), 1);
        assert_eq!(complaints(&format!("\"/{}/x\"", MACHINE[2])), 1);
        assert_eq!(complaints(&format!("https://some.where/{}/x ../{}/y", MACHINE[2], MACHINE[3])), 0);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(complaints(&"\n".repeat(LINES_MAX)), 0);
        assert_eq!(complaints(&"\n".repeat(LINES_MAX + 1)), 1);
    }
}
