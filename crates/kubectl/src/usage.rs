//! What is wrong with a command line, in kubectl's words.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The text for an error of the parser; `None` where the parser's own says more.
pub(crate) fn describe(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let wrong = match error.kind() {
        ErrorKind::UnknownArgument => unknown_flag(&text(ContextKind::InvalidArg)?)?,
        ErrorKind::InvalidSubcommand => {
            let command = text(ContextKind::InvalidSubcommand)?;
            return Some(format!("error: unknown command \"{command}\" for \"kubectl\""));
        }
        ErrorKind::MissingRequiredArgument => {
            let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
                return None;
            };
            let flags: Vec<String> = missing
                .iter()
                .filter_map(|argument| flag_name(argument))
                .collect();
            if flags.is_empty() {
                return None;
            }
            return Some(format!(
                "error: required flag(s) \"{}\" not set",
                flags.join("\", \"")
            ));
        }
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_none_or(|value| value.is_empty()) => {
            format!(
                "flag needs an argument: --{}",
                flag_name(&text(ContextKind::InvalidArg)?)?
            )
        }
        _ => return None,
    };
    Some(format!("error: {wrong}\nSee 'kubectl --help' for usage."))
}

/// `--image <IMAGE>` → `image`
fn flag_name(argument: &str) -> Option<String> {
    let name = argument.strip_prefix("--")?;
    Some(name.split([' ', '=']).next().unwrap_or(name).to_string())
}

fn unknown_flag(argument: &str) -> Option<String> {
    if argument.starts_with("--") {
        return Some(format!("unknown flag: {argument}"));
    }
    let short = argument.strip_prefix('-')?.chars().next()?;
    Some(format!("unknown shorthand flag: '{short}' in {argument}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::describe;
    use crate::Kubectl;

    #[test]
    fn what_is_wrong_reads_as_kubectl_says_it() {
        let cases = [
            (
                "get pods --bar",
                "error: unknown flag: --bar\nSee 'kubectl --help' for usage.",
            ),
            (
                "get pods -x",
                "error: unknown shorthand flag: 'x' in -x\nSee 'kubectl --help' for usage.",
            ),
            ("foo", "error: unknown command \"foo\" for \"kubectl\""),
            ("run x", "error: required flag(s) \"image\" not set"),
            ("create deployment x", "error: required flag(s) \"image\" not set"),
            ("scale deploy x", "error: required flag(s) \"replicas\" not set"),
            (
                "get pods -l",
                "error: flag needs an argument: --selector\nSee 'kubectl --help' for usage.",
            ),
        ];
        for (line, expected) in cases {
            let words = std::iter::once("kubectl").chain(line.split_whitespace());
            let error = Kubectl::try_parse_from(words).unwrap_err();
            assert_eq!(describe(&error).as_deref(), Some(expected), "{line}");
        }
    }
}
