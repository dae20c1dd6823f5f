//! The path as rules see it: what servers take for the same path is the same here, or a denial could be walked around.

use std::borrow::Cow;

/// Decodes what need not be encoded, merges slashes, resolves `.` and `..` (RFC 3986 §6.2.2). Only for judging: what is
/// sent on stays as it came.
pub fn normal(path: &str) -> Cow<'_, str> {
    let suspicious =
        path.contains('%') || path.contains("//") || path.contains("/.") || path.contains('\\');
    if !suspicious {
        return Cow::Borrowed(path);
    }
    let decoded = decode(path).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let directory = decoded.ends_with('/') || decoded.ends_with("/.") || decoded.ends_with("/..");
    let end = if directory && !segments.is_empty() {
        "/"
    } else {
        ""
    };
    Cow::Owned(format!("/{}{end}", segments.join("/")))
}

/// Decodes printable ASCII; the rest stays encoded, as it cannot stand in a rule anyway.
fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii_graphic) {
            Some(byte) => {
                decoded.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded + rest
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn different_spellings_of_a_path_are_one() {
        for (path, expected) in [
            ("/admin", "/admin"),
            ("//admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2e/admin", "/admin"),
            ("/./admin/.", "/admin/"),
            ("/admin%2fx", "/admin/x"),
            ("/..\\admin", "/admin"),
            ("/a%20b", "/a%20b"),
            ("/%", "/%"),
            ("/%zz", "/%zz"),
            ("/é%", "/é%"),
            ("/../..", "/"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }
}
