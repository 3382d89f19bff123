//! Links of the documents lead somewhere: to a file of the project, and to a heading in it. So do the names of tests, written
//! `folder/file::test`.

use std::path::{Component, Path, PathBuf};

use super::File;

/// All links that lead nowhere.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let documents = files.iter().filter(|file| file.path.ends_with(".md"));
    documents.flat_map(|document| [dead_links(document, files), lost_tests(document, files)].concat()).collect()
}

fn lost_tests(document: &File, files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in prose(&document.text) {
        // What stands between backticks.
        for quoted in line.split('`').skip(1).step_by(2) {
            let Some((path, name)) = quoted.rsplit_once("::") else { continue };
            // Other people's tests have other folders.
            let Some((folder, _)) = path.split_once('/') else { continue };
            if !files.iter().any(|file| file.path.split('/').next() == Some(folder)) {
                continue;
            }
            let definitions = [format!("fn {name}("), format!("def {name}(")];
            let defines = |file: &File| definitions.iter().any(|definition| file.text.contains(definition));
            if !files.iter().any(|file| file.path.starts_with(path) && defines(file)) {
                complaints.push(format!("{}:{number}: there is no such test: {quoted}", document.path));
            }
        }
    }
    complaints
}

fn dead_links(document: &File, files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in prose(&document.text) {
        let dead = targets(line).into_iter().filter(|target| !resolves(target, document, files));
        complaints.extend(dead.map(|target| format!("{}:{number}: leads nowhere: {target}", document.path)));
    }
    complaints
}

/// The numbered lines outside fenced code.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((number, line));
        }
    }
    lines
}

/// What stands in `](...)`, without a title, and not between backticks.
fn targets(line: &str) -> Vec<&str> {
    let is_quoted = |start: usize| line[..start].matches('`').count() % 2 == 1;
    let starts = line.match_indices("](").filter(|(start, _)| !is_quoted(*start));
    let inside = starts.filter_map(|(start, _)| line[start + 2..].split_once(')'));
    inside.filter_map(|(target, _)| target.split_whitespace().next()).collect()
}

fn resolves(target: &str, document: &File, files: &[File]) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { PathBuf::from(&document.path) } else { joined(&document.path, path) };
    let Some(anchor) = anchor else { return path.exists() };
    files.iter().find(|file| Path::new(&file.path) == path).is_some_and(|file| {
        // In code an anchor is a line.
        !file.path.ends_with(".md") || headings(&file.text).iter().any(|heading| heading == anchor)
    })
}

/// A path relative to a document's folder, as one relative to the project's.
fn joined(document: &str, target: &str) -> PathBuf {
    let mut path = Path::new(document).parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

/// The anchors of a document's headings, made as code hosts make them.
fn headings(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose(text).into_iter().filter(|(_, line)| line.starts_with('#')) {
        let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
        let name: String = line.trim_start_matches('#').trim().chars().filter(kept).collect();
        let name = name.to_lowercase().replace(' ', "-");
        let earlier = anchors.iter().filter(|anchor| {
            anchor.trim_end_matches(|digit: char| digit.is_ascii_digit()).trim_end_matches('-') == name
        });
        let count = earlier.count();
        anchors.push(if count == 0 { name } else { format!("{name}-{count}") });
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn dead_links_are_found_and_live_ones_left_alone() {
        let other = file("docs/other.md", "# One: `two`, three\n## Same\n## Same\n");
        let text = "[a](other.md) [b](other.md#one-two-three) [c](#here) [d](https://example.org/x)\n# Here\n\
                    [e](other.md#same-1) `[f](none.md)`\n```\n[g](none.md)\n```\n[h](none.md) [i](../docs/other.md#four)";
        let complaints = check(&[other, file("docs/some.md", text)]);
        // No such file is on the disk: a link without an anchor is looked up there.
        let expected =
            ["1: leads nowhere: other.md", "7: leads nowhere: none.md", "7: leads nowhere: ../docs/other.md#four"];
        assert_eq!(complaints, expected.map(|end| format!("docs/some.md:{end}")));
    }
}
