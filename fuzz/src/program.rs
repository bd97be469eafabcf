//! What the program itself reads: its journal, its configuration, and policies.

use rhizome_engine::policy::SourceFile;

/// The journal's reader: any file is read to an end, and every byte is accounted for.
pub fn journal(data: &[u8]) {
    rhizome::journal::fuzz_read(data);
}

/// The configuration: any text is taken or refused with what is wrong.
pub fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        rhizome::config::fuzz_parse(text);
    }
}

/// Policy loading: any text is loaded or refused with where, and neither hangs nor panics.
pub fn policies(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let file = SourceFile {
        name: "fuzz.rhai".to_owned(),
        text: text.to_owned(),
    };
    if let Err(error) = rhizome::policies::check(&[file]) {
        let said = error.to_string();
        assert!(!said.contains("panic"), "{said}");
        assert!(!said.is_empty(), "an error says what is wrong");
    }
}
