//! Who may use the operations API.

use super::secret::Secret;
use super::variable::{Reader, Variable};

/// Tokens shorter than this, in bytes, can be guessed.
const SHORTEST: usize = 24;
/// Names are labels of the audit log.
const LONGEST_NAME: usize = 32;

const TOKENS: Variable = Variable::new(
    "GATEWAY_ADMIN_TOKEN",
    "",
    "bearer tokens of the operations API under `/admin/`, best as `GATEWAY_ADMIN_TOKEN_FILE`: one a line, `name:token`, 24 \
     characters or more; the name stands in the audit log. Empty turns the API off",
)
.secret()
.live()
.example("oncall:a-token-that-nobody-can-guess");

pub(super) const VARIABLES: &[Variable] = &[TOKENS];

/// A token and the name that its actions are logged under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// Letters, digits, dashes and underscores.
    pub name: String,
    /// What the request carries.
    pub token: Secret,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Vec<AdminToken>> {
    reader.take(&TOKENS, |text| {
        let lines = text.split(['\n', ',']).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.enumerate().map(|(at, line)| token(line).map_err(|why| format!("token {}: {why}", at + 1))).collect()
    })
}

/// The errors repeat nothing of the line: what looks like a name may be a token.
fn token(line: &str) -> Result<AdminToken, &'static str> {
    let (name, token) = line.split_once(':').unwrap_or(("admin", line));
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(in_name) {
        return Err("the name is not 1 to 32 letters, digits, dashes and underscores");
    }
    if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token is not 24 characters or more, printable and without spaces");
    }
    Ok(AdminToken { name: name.to_owned(), token: Secret::new(token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_have_a_name() {
        let long = "0123456789abcdef01234567";
        let read = |line: &str| token(line).map(|token| (token.name, token.token.expose().to_owned()));
        assert_eq!(read(&format!("oncall:{long}")), Ok(("oncall".to_owned(), long.to_owned())));
        assert_eq!(read(long), Ok(("admin".to_owned(), long.to_owned())));
        for wrong in [
            "oncall:short",
            ":0123456789abcdef01234567",
            "on call:0123456789abcdef01234567",
            "a:b c d e f g h i j k l m n",
        ] {
            assert!(token(wrong).is_err(), "{wrong}");
        }
    }
}
