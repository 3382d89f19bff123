//! Who may import whom: the tables, and the comparison with the code.

use anyhow::{Context, Result};
use serde_json::Value;

use super::File;
use crate::programs::{cargo, output};

/// Each crate of ours, and those of ours that it may depend on; what tests alone need does not count.
const CRATES: &[(&str, &[&str])] = &[
    ("highwater-core", &[]),
    ("highwater-wire", &[]),
    ("highwater-sql", &[]),
    ("highwater-lab", &[]),
    ("highwater-sim", &["highwater-core"]),
    ("highwater-client", &[]),
    ("highwater-showcase", &["highwater-lab"]),
    ("highwater", &["highwater-core", "highwater-wire", "highwater-sql", "highwater-lab", "highwater-showcase"]),
    ("xtask", &["highwater-lab"]),
];

/// Crates that may depend on nothing at all.
const ALONE: &[&str] = &["highwater-core"];

/// The modules of the proxy from top to bottom. A module may import those of lower lines, not those of its own.
const MODULES: &[&[&str]] = &[
    &["cli"],
    &["doctor", "start"],
    &["listener"],
    &["lobby", "upkeep"],
    &["session", "console", "http"],
    &["catalog", "control", "monitor", "roles"],
    &["shared"],
    &["census", "credentials", "pool", "prepared", "probe", "sessions", "signals", "stats"],
    &["owners", "state"],
    &["error"],
    &["limits", "server"],
    &["password_file", "tls"],
    &["config"],
    &["net"],
    &["clock", "files", "gate", "storm", "text"],
];

const MODULES_FOLDER: &str = "crates/proxy/src/";

/// Crates beneath which no asynchronous runtime may appear, not even through somebody else.
const WITHOUT_RUNTIME: &[&str] = &["highwater-core", "highwater-wire", "highwater-sql"];

/// The runtimes, and what they wait with.
const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "async-executor", "futures-executor", "mio", "polling"];

/// Holds `CRATES` and `ALONE` against the manifests.
pub(super) fn between_crates() -> Result<Vec<String>> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&text).context("cannot read cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut complaints = Vec::new();
    for (name, package) in names.iter().zip(packages) {
        let Some((_, allowed)) = CRATES.iter().find(|(known, _)| known == name) else {
            complaints.push(format!("{name}: a crate without a line in CRATES, xtask/src/tidy/arrows.rs"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let other = dependency["name"].as_str().context("a dependency has no name")?;
            if ALONE.contains(name) || (names.contains(&other) && !allowed.contains(&other)) {
                complaints.push(format!("{name}: must not depend on {other}"));
            }
        }
    }
    Ok(complaints)
}

/// Looks for a runtime beneath the pure crates.
pub(super) fn below_runtime() -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for name in WITHOUT_RUNTIME {
        let tree = output(cargo().args(["tree", "--edges", "normal", "--prefix", "none", "--package", name]))?;
        let beneath = tree.lines().filter_map(|line| line.split(' ').next());
        let found = RUNTIMES.iter().filter(|runtime| beneath.clone().any(|beneath| beneath == **runtime));
        complaints.extend(found.map(|runtime| format!("{name}: stands on an asynchronous runtime: {runtime}")));
    }
    Ok(complaints)
}

/// Holds `MODULES` against what the proxy's modules import.
pub(super) fn between_modules(files: &[File]) -> Vec<String> {
    files.iter().flat_map(modules_imported).collect()
}

fn modules_imported(file: &File) -> Vec<String> {
    let Some(inside) = file.path.strip_prefix(MODULES_FOLDER) else { return Vec::new() };
    let from = inside.split(['/', '.']).next().unwrap_or_default();
    // The roots name all modules, to put them together.
    if !inside.ends_with(".rs") || ["lib", "main", "bin"].contains(&from) {
        return Vec::new();
    }
    let Some(height) = height(from) else {
        return vec![format!("{}: a module without a line in MODULES, xtask/src/tidy/arrows.rs", file.path)];
    };
    let code: String =
        file.text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    // In a module that is one file, `super` is the crate.
    let roots: &[&str] = if inside.contains('/') { &["crate::"] } else { &["crate::", "super::"] };
    let imported = roots.iter().flat_map(|root| names_after(&code, root)).filter(|to| *to != from && *to != "tests");
    imported
        .filter(|to| self::height(to).is_none_or(|other| other <= height))
        .map(|to| format!("{}: must not import {to}", file.path))
        .collect()
}

/// The line of `MODULES` that a module stands in, counted from the top.
fn height(module: &str) -> Option<usize> {
    MODULES.iter().position(|line| line.contains(&module))
}

/// The names that directly follow `root` in `code`, also those of a group: `a` and `c` of `crate::{a::b, c}`.
fn names_after<'a>(code: &'a str, root: &str) -> Vec<&'a str> {
    let starts = code.match_indices(root).filter(|(start, _)| !code[..*start].ends_with(is_part_of_name));
    let mut names = Vec::new();
    for (start, _) in starts {
        let rest = &code[start + root.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.push(first_name(rest)),
        }
    }
    names.retain(|name| !name.is_empty() && *name != "self");
    names
}

/// The first names of the items of a group, whose opening brace has been taken.
fn first_names(group: &str) -> Vec<&str> {
    let mut names = vec![first_name(group)];
    let mut depth = 1;
    for (position, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(first_name(&group[position + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn first_name(text: &str) -> &str {
    text.trim_start().split(|character| !is_part_of_name(character)).next().unwrap_or_default()
}

fn is_part_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        between_modules(&[File { path: format!("{MODULES_FOLDER}{path}"), text: text.to_owned() }])
    }

    #[test]
    fn names_are_found_in_every_form() {
        let code = "use crate::a::B; use crate::{c, d::{e, f}, self};\nlet x = crate::g::h(); mycrate::no; use crate::{\n    i,\n};";
        assert_eq!(names_after(code, "crate::"), ["a", "c", "d", "g", "i"]);
    }

    #[test]
    fn arrows_run_downward_only() {
        assert!(complaints("pool.rs", "use crate::server::Connection; use super::clock::now;").is_empty());
        assert!(complaints("lib.rs", "use crate::cli;").is_empty());
        assert_eq!(complaints("net.rs", "use crate::pool::Pool;"), ["crates/proxy/src/net.rs: must not import pool"]);
        assert_eq!(complaints("session/unit.rs", "use super::x; use crate::http;").len(), 1);
        assert_eq!(complaints("clock.rs", "use super::text;").len(), 1);
        assert_eq!(complaints("clock.rs", "use crate::Everything;").len(), 1);
        assert!(complaints("clock.rs", "/// See [`crate::cli`].").is_empty());
        assert!(complaints("manager.rs", "")[0].contains("without a line"));
    }
}
