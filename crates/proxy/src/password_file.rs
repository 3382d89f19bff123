//! A file of users and passwords, one line each: `"user" "password"`, the password as it is or as PostgreSQL stores it
//! (`SCRAM-SHA-256$...`, `md5...`). A quote inside quotes is doubled; what stands behind, and lines that begin with `;` or
//! `#`, are left alone, so that PgBouncer's `userlist.txt` will do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::Password;
use crate::files::Watched;

/// Users with their passwords.
#[derive(Debug, Default)]
pub(crate) struct PasswordFile(HashMap<String, Password>);

/// The file of the setting `password_file`, if it is set.
///
/// # Errors
/// A file that cannot be read; file and line of what is no entry.
pub(crate) fn watch(path: &Path) -> anyhow::Result<Option<Watched<PasswordFile>>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let file = path.to_owned();
    Watched::new(vec![PathBuf::from(path)], move || PasswordFile::read(&file)).map(Some)
}

impl PasswordFile {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).map_err(|complaint| anyhow::anyhow!("{}, {complaint}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut users = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            // Nothing of the line is repeated: it may hold a password.
            let wrong = || anyhow::anyhow!("line {number}: an entry is \"user\" \"password\"");
            let (user, rest) = quoted(line).ok_or_else(wrong)?;
            let (password, _) = quoted(rest.trim_start()).ok_or_else(wrong)?;
            let twice = users.insert(user.clone(), Password(password)).is_some();
            anyhow::ensure!(!twice, "line {number}: user \"{user}\" is given twice");
        }
        Ok(Self(users))
    }

    /// The password of `user`, as the file has it.
    pub(crate) fn password(&self, user: &str) -> Option<&Password> {
        self.0.get(user)
    }
}

/// The text between quotes at the start of `line`, and what follows.
fn quoted(line: &str) -> Option<(String, &str)> {
    let mut rest = line.strip_prefix('"')?;
    let mut text = String::new();
    loop {
        let (part, behind) = rest.split_once('"')?;
        text.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                text.push('"');
                rest = more;
            }
            None => return Some((text, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_pgbouncer_does() {
        let text = "; users\n\n\"app\" \"secret\"\n  \"say \"\"hi\"\"\" \"md5abc\" more\n# end\n\"x\"\t\"\"\n";
        let file = PasswordFile::parse(text).expect("valid");
        let password = |user| file.password(user).map(|password| password.to_string());
        assert_eq!(password("app").as_deref(), Some("secret"));
        assert_eq!(password("say \"hi\"").as_deref(), Some("md5abc"));
        assert_eq!(password("x").as_deref(), Some(""));
        assert_eq!(password("nobody"), None);
    }

    #[test]
    fn complaints_name_the_line_and_no_password() {
        for (text, line) in [
            ("\"a\" \"b\"\napp secret\n", "line 2"),
            ("\"app\" \"secret", "line 1"),
            ("\"app\"\n", "line 1"),
            ("\"a\" \"b\"\n\n\"a\" \"secret\"", "line 3"),
        ] {
            let complaint = PasswordFile::parse(text).expect_err(text).to_string();
            assert!(complaint.contains(line) && !complaint.contains("secret"), "{complaint}");
        }
    }
}
