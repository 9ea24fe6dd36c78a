//! Chat templates as Hugging Face writes them: Jinja with a few functions more, and limits so that none runs forever.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::clock::strftime_now;
use crate::{ChatMessage, TemplateError};

const NAME: &str = "chat_template";
/// Longest source that is compiled: real ones are under 64 KiB.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Instructions for a render, and more for each message: real templates use a few hundred for a message.
const FUEL: u64 = 1_000_000;
const FUEL_PER_MESSAGE: u64 = 20_000;
/// Output beyond what goes in.
const OUTPUT_BYTES: usize = 4 << 20;
/// Macros calling macros; real templates stay under ten.
const RECURSION_MAX: usize = 64;

/// A chat template that can be rendered, wherever that happens.
pub trait TemplateRenderer: std::fmt::Debug + Send + Sync {
    /// The source it was compiled from.
    fn source(&self) -> &str;

    /// Renders messages to the text that the model continues.
    ///
    /// # Errors
    /// [`TemplateError`] when the template refuses the messages, fails, or needs more than it may.
    fn render(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError>;
}

/// A chat template compiled in this process. Steps, depth and the length of the result are bounded here, the memory and
/// time of a single step are not: a template that is not trusted belongs into a process with limits.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
}

/// What a template is given.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct TemplateInput<'a> {
    /// The conversation, in order.
    pub messages: &'a [ChatMessage],
    /// Whether to end with the opening of the assistant's answer.
    pub add_generation_prompt: bool,
    /// The model's start token in written form, or empty.
    pub bos_token: &'a str,
    /// The model's end token in written form, or empty.
    pub eos_token: &'a str,
    /// Other variables; they do not replace those above.
    pub variables: &'a BTreeMap<String, serde_json::Value>,
}

/// Carried through the engine's error, so that a template's own refusal can be told from its failures.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

#[derive(Debug, thiserror::Error)]
#[error("the output is longer than {0} bytes")]
struct TooLong(usize);

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`TemplateError::Compile`] says what is wrong and where.
    pub fn compile(source: &str) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            let message = format!("it has {} bytes, more than the limit of {SOURCE_BYTES_MAX}", source.len());
            return Err(TemplateError::Compile { message });
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_recursion_limit(RECURSION_MAX);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime_now(format));
        environment.add_filter("tojson", to_json);
        // It is others' code, and some odd templates make it panic (an import under a name that is none).
        let added = catch_unwind(AssertUnwindSafe(|| {
            environment.add_template_owned(NAME, without_generation_blocks(source)).map_err(|error| describe(&error))
        }));
        match added.unwrap_or_else(|_| Err("it cannot be read".to_owned())) {
            Ok(()) => Ok(Self { environment, source: source.to_owned() }),
            Err(message) => Err(TemplateError::Compile { message }),
        }
    }
}

impl TemplateRenderer for ChatTemplate {
    fn source(&self) -> &str {
        &self.source
    }

    fn render(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError> {
        let mut variables: BTreeMap<&str, Value> =
            input.variables.iter().map(|(name, value)| (name.as_str(), Value::from_serialize(value))).collect();
        for absent in ["tools", "documents"] {
            variables.entry(absent).or_insert(Value::from(()));
        }
        variables.insert("messages", input.messages.iter().map(message_value).collect());
        variables.insert("add_generation_prompt", Value::from(input.add_generation_prompt));
        variables.insert("bos_token", Value::from(input.bos_token));
        variables.insert("eos_token", Value::from(input.eos_token));

        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE.saturating_mul(input.messages.len() as u64)));
        let template = environment.get_template(NAME).map_err(|error| failure(&error))?;
        let content_bytes: usize = input.messages.iter().map(|message| message.content.len()).sum();
        let mut output =
            Bounded { bytes: Vec::new(), limit: OUTPUT_BYTES.saturating_add(content_bytes.saturating_mul(2)) };
        template.render_captured_to(variables, &mut output).map_err(|error| failure(&error))?;
        String::from_utf8(output.bytes).map_err(|error| TemplateError::Render { message: error.to_string() })
    }
}

/// A buffer that fails instead of growing past its limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit.saturating_sub(self.bytes.len()) {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLong(self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn message_value(message: &ChatMessage) -> Value {
    let fields = [("role", Some(&message.role)), ("content", Some(&message.content)), ("name", message.name.as_ref())];
    fields.into_iter().filter_map(|(key, value)| Some((key, Value::from(value?.as_str())))).collect()
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message.to_owned())))
}

/// An error of the template engine in our words.
fn failure(error: &Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref() {
            return TemplateError::Raised { message: message.clone() };
        }
        let too_long = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(too_long) = too_long.filter(|inner| inner.is::<TooLong>()) {
            return TemplateError::Exhausted { message: too_long.to_string() };
        }
        cause = current.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::Exhausted { message: "it ran too many steps".to_owned() };
    }
    TemplateError::Render { message: describe(error) }
}

fn describe(error: &Error) -> String {
    let mut message = error.to_string();
    // The engine's messages do not hold those of their causes.
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        message = format!("{message}: {current}");
        cause = current.source();
    }
    message
}

/// `json.dumps` of Python as Hugging Face calls it: separators with a space, nothing escaped beyond JSON's needs.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    const INDENT_MAX: usize = 16;
    let indent: Option<usize> = options.get("indent")?;
    // Names that Python's function knows and that change nothing here.
    for ignored in ["ensure_ascii", "sort_keys", "separators"] {
        let _: Option<Value> = options.get(ignored)?;
    }
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        None => write_json(value, &mut json, SpacedFormatter),
        Some(width) => {
            let indent = " ".repeat(width.min(INDENT_MAX));
            write_json(value, &mut json, PrettyFormatter::with_indent(indent.as_bytes()))
        }
    };
    written
        .and_then(|()| String::from_utf8(json).map_err(serde::ser::Error::custom))
        .map(Value::from)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "cannot write as JSON").with_source(error))
}

fn write_json<F: Formatter>(value: &Value, json: &mut Vec<u8>, formatter: F) -> serde_json::Result<()> {
    if value.kind() == ValueKind::Undefined {
        return Err(serde::ser::Error::custom("undefined value"));
    }
    serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(json, formatter))
}

/// `{"a": 1, "b": 2}`
struct SpacedFormatter;

impl Formatter for SpacedFormatter {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `{% generation %}` marks answers for training and means nothing here; the engine does not know it. An `if` that is
/// always taken keeps each tag's trimming of white space.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest.get(start..).and_then(|tag| tag.find("%}")).map(|end| start + end + 2) else { break };
        let (before, tag) = rest.get(..end).unwrap_or_default().split_at_checked(start).unwrap_or((rest, ""));
        out.push_str(before);
        let word = tag.trim_start_matches(['{', '%', '-', '+']).trim_end_matches(['}', '%', '-', '+']).trim();
        match word {
            "generation" => out.push_str(&tag.replace(word, "if true")),
            "endgeneration" => out.push_str(&tag.replace(word, "endif")),
            _ => out.push_str(tag),
        }
        rest = rest.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> ChatMessage {
        ChatMessage { role: role.to_owned(), content: content.to_owned(), name: None }
    }

    fn render_with(
        source: &str,
        messages: &[ChatMessage],
        variables: &BTreeMap<String, serde_json::Value>,
    ) -> Result<String, TemplateError> {
        ChatTemplate::compile(source)?.render(&TemplateInput {
            messages,
            add_generation_prompt: true,
            bos_token: "<s>",
            eos_token: "</s>",
            variables,
        })
    }

    fn render(source: &str) -> Result<String, TemplateError> {
        render_with(source, &[message("system", " Be brief. "), message("user", "Hi")], &BTreeMap::new())
    }

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(render(source).unwrap(), expected);
    }

    #[test]
    fn templates_see_what_they_expect() {
        check(
            "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m['content'].strip() }}{% endfor %}",
            "<s>[system]Be brief.[user]Hi",
        );
        check("{% if tools is none and documents is none and add_generation_prompt %}yes{% endif %}", "yes");
        check("{% if m is defined %}a{% else %}b{% endif %}{{ undefined_thing }}", "b");
        check(
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}",
            "Hi",
        );
        check(
            "{% set ns = namespace(x=1) %}{% for m in messages %}{% set ns.x = ns.x + 1 %}{% endfor %}{{ ns.x }}",
            "3",
        );
        check("{% for m in messages %}\n    {% if true %}\nx\n    {% endif %}\n{% endfor %}\n", "x\nx\n");
        check("{{ messages[1:][0].content.split('i')[0].upper() }}{{ messages[0].get('none', 'd') }}", "Hd");
        check("{{ {'a': [1, '<é>'], 'b': none} | tojson }}", r#"{"a": [1, "<é>"], "b": null}"#);
        check("{{ {'a': [1]} | tojson(indent=2, ensure_ascii=false) }}", "{\n  \"a\": [\n    1\n  ]\n}");
        check("{%- generation -%} a {%- endgeneration -%}", "a");
        check("{{ strftime_now('%Y') | length }}", "4");
        check("<{{ '&' }}>", "<&>");
    }

    #[test]
    fn other_variables_are_seen_but_replace_nothing() {
        let variables = BTreeMap::from([
            ("enable_thinking".to_owned(), serde_json::json!(false)),
            ("messages".to_owned(), serde_json::json!([])),
            ("tools".to_owned(), serde_json::json!([{"name": "f"}])),
        ]);
        let source = "{{ enable_thinking }} {{ messages | length }} {{ tools[0].name }}";
        assert_eq!(render_with(source, &[message("user", "a")], &variables).unwrap(), "False 1 f");
    }

    #[test]
    fn a_refusal_is_told_in_the_templates_words() {
        let error = render("{{ raise_exception('Roles must alternate') }}").unwrap_err();
        assert!(matches!(&error, TemplateError::Raised { message } if message == "Roles must alternate"), "{error}");
        let error = render("{% macro f() %}{{ raise_exception('deep') }}{% endmacro %}{{ f() }}").unwrap_err();
        assert!(matches!(&error, TemplateError::Raised { message } if message == "deep"), "{error}");
    }

    #[test]
    fn faults_are_told() {
        for source in ["{% if %}", "{% import 'chat_template' as t != 0 %}"] {
            assert!(matches!(render(source), Err(TemplateError::Compile { .. })), "{source}");
        }
        assert!(matches!(render("{% generation"), Err(TemplateError::Compile { .. })));
        assert!(matches!(render(&"x".repeat(SOURCE_BYTES_MAX + 1)), Err(TemplateError::Compile { .. })));
        let error = render("{{ nothing.at.all }}").unwrap_err();
        assert!(matches!(&error, TemplateError::Render { message } if message.contains("undefined")), "{error}");
        assert!(matches!(
            render("{{ messages | no_such_filter }}"),
            Err(TemplateError::Compile { .. } | TemplateError::Render { .. })
        ));
    }

    #[test]
    fn a_template_that_loops_is_stopped() {
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        assert!(matches!(render(nested), Err(TemplateError::Exhausted { .. })));
        let writing = "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}";
        let error = render(writing).unwrap_err();
        assert!(matches!(&error, TemplateError::Exhausted { message } if message.contains("longer")), "{error}");
        let recursive = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
        assert!(render(recursive).is_err());
        let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(matches!(render(&format!("{{{{ {deep} }}}}")), Err(TemplateError::Compile { .. })));
    }
}
