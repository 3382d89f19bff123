//! Seeds: kept in few files that can be read, unpacked into one file each as the fuzzer wants them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Between two texts of a `.txt` file.
const SEPARATOR: &str = "\n%%\n";

/// Makes a folder of the seeds of one target: lines of hex digits, and texts.
pub(super) fn unpack(target: &str, folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let packed = |ending: &str| fs::read_to_string(format!("fuzz/seeds/{target}.{ending}")).unwrap_or_default();
    let (lines, texts) = (packed("hex"), packed("txt"));
    let texts = texts.strip_suffix('\n').unwrap_or_default().split(SEPARATOR).filter(|text| !text.is_empty());
    let texts = texts.map(|text| Some(text.as_bytes().to_vec()));
    for (number, seed) in lines.lines().map(bytes).chain(texts).enumerate() {
        let seed = seed.with_context(|| format!("fuzz/seeds/{target}.hex:{}: no hex digits", number + 1))?;
        fs::write(folder.join(number.to_string()), seed)?;
    }
    Ok(())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_or_refused() {
        assert_eq!(bytes("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(bytes(""), Some(vec![]));
        assert_eq!((bytes("0"), bytes("zz"), bytes("é0")), (None, None, None));
    }
}
