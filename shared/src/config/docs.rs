//! Reference pages that are rendered from declarations, and the test that keeps them fresh.

use std::{fmt::Write as _, fs, path::Path};

use super::{SectionTable, Settings};

/// The sections as Markdown.
pub fn markdown<T: Settings>() -> String {
    let mut page = String::new();
    for section in T::sections() {
        write_section(&mut page, &section).expect("writing to a string cannot fail");
    }
    page
}

fn write_section(page: &mut String, section: &SectionTable) -> std::fmt::Result {
    writeln!(page, "### `[{}]`\n\n{}\n", section.name, section.doc.trim())?;
    writeln!(
        page,
        "| setting | default | what it does |\n| --- | --- | --- |"
    )?;
    for field in &section.fields {
        let default = field.default.as_ref().map_or("–".to_owned(), |value| {
            format!("`{value}`").replace('|', "\\|")
        });
        let mut kind = field.kind.clone();
        if let Some(range) = &field.range {
            kind = format!("{kind}; {range}");
        }
        if field.secret {
            kind = format!("{kind}; or `{}_file`", field.name);
        }
        let doc = field.doc.trim().replace('|', "\\|");
        writeln!(page, "| `{}` | {default} | {doc} *({kind})* |", field.name)?;
    }
    writeln!(page)
}

/// Compares the part of a page between `<!-- begin <region> -->` and `<!-- end <region> -->`
/// with what it should be; with `UPDATE_DOCS` in the environment, writes it instead.
/// For tests: panics when the page is stale.
#[allow(clippy::disallowed_methods, reason = "read by tests only")]
pub fn check_region(page: &Path, region: &str, expected: &str) {
    let begin = format!("<!-- begin {region} -->\n");
    let end = format!("<!-- end {region} -->");
    let text =
        fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let (head, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{} has no region {region}", page.display()));
    let (current, tail) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("region {region} has no end"));
    let expected = format!("\n{}\n\n", expected.trim());
    if current == expected {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page, format!("{head}{begin}{expected}{end}{tail}"))
            .expect("the page can be written");
        return;
    }
    panic!(
        "{} is stale in region {region}: run `make docs`",
        page.display()
    );
}
