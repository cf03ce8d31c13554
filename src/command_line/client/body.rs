//! The body of a message, as the small clients hold it: JSON texts, kept as they were written.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use corsac::model::properties::Properties;
use corsac::model::{self, Encoding, Payload};
use corsac::wire::payload;
use serde_json::value::RawValue;

use crate::command_line::failure::Usage;

/// The mark before the digits of binary in a line for people.
const HEX: &str = "hex:";

/// Arguments and keyword arguments. A binary value is WAMP's JSON string of NUL and Base64.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Positional arguments.
    pub args: Vec<Box<RawValue>>,
    /// Keyword arguments: one JSON object.
    pub kwargs: Option<Box<RawValue>>,
}

impl Body {
    /// The body that was typed: each text an argument, JSON if it parses, else text (an error if `strict`). One empty text is the
    /// empty value. `kwargs` is one JSON object.
    pub fn typed(texts: &[String], kwargs: Option<&str>, strict: bool) -> Result<Self, Usage> {
        let kwargs = kwargs.map(object).transpose()?.and_then(unless_empty);
        if let [text] = texts {
            if strict && json(text).is_none() {
                return Err(not_json(text));
            }
            return Ok(Body { kwargs, ..Body::of_text(text) });
        }
        let argument = |text: &String| match json(text) {
            None if strict => Err(not_json(text)),
            None => Ok(quoted(text)),
            Some(value) => Ok(value),
        };
        Ok(Body { args: texts.iter().map(argument).collect::<Result<_, _>>()?, kwargs })
    }

    /// One message of these bytes: JSON if they parse, else text, else binary. No bytes are the empty value. `kwargs` go with it.
    pub fn of_bytes(bytes: Bytes, kwargs: Option<&str>) -> Result<Self, Usage> {
        let kwargs = kwargs.map(object).transpose()?.and_then(unless_empty);
        let body = Body::of_message(bytes, None, None);
        Ok(if kwargs.is_some() { Body { kwargs, ..body } } else { body })
    }

    /// One binary value.
    pub fn binary(bytes: Bytes) -> Self {
        Body::of_message(bytes, Some(payload::BINARY_TYPE), None)
    }

    /// One argument: JSON if it parses, else text. An empty text is the empty value.
    pub fn of_text(text: &str) -> Self {
        match json(text) {
            Some(value) => Body { args: vec![value], kwargs: None },
            None if text.is_empty() => Body::default(),
            None => Body::text(text),
        }
    }

    /// One argument that is text, whatever it looks like.
    pub fn text(text: &str) -> Self {
        Body { args: vec![quoted(text)], ..Body::default() }
    }

    /// The body of an MQTT message (MAPPING: Payloads) with these properties.
    pub fn of_message(bytes: Bytes, content_type: Option<&str>, payload_format: Option<bool>) -> Self {
        let properties = Properties { content_type: content_type.map(Into::into), payload_format, ..Properties::default() };
        Body::of_args(&payload::to_args(&Payload::Bytes(bytes), Some(&properties), Encoding::Json))
    }

    /// The body of a WAMP message, however it is encoded.
    pub fn of_payload(payload: &Payload) -> Self {
        Body::of_args(&payload::to_args(payload, None, Encoding::Json))
    }

    /// The body of an event of the history.
    pub fn of_parts(args: Vec<Box<RawValue>>, kwargs: Box<RawValue>) -> Self {
        Body { args, kwargs: unless_empty(kwargs) }
    }

    /// Arguments in JSON.
    fn of_args(payload: &Payload) -> Self {
        let Payload::Args { args, kwargs, .. } = payload else { return Body::default() };
        let kwargs = serde_json::from_slice(kwargs).ok().and_then(unless_empty);
        Body { args: serde_json::from_slice(args).unwrap_or_default(), kwargs }
    }

    /// As WAMP carries it.
    pub fn to_payload(&self) -> Payload {
        let args = if self.is_empty() { Bytes::new() } else { self.args_json().into() };
        let kwargs = self.kwargs.as_ref().map_or_else(Bytes::new, |kwargs| kwargs.get().to_owned().into());
        Payload::Args { encoding: Encoding::Json, args, kwargs }
    }

    /// As MQTT carries a publication (MAPPING: Payloads), as a router would make it from WAMP.
    pub fn to_message(&self) -> model::payload::Body {
        payload::to_bytes(&self.to_payload(), None)
    }

    /// As MQTT carries the arguments of a call or its result: in a form that becomes the same arguments again.
    pub fn to_arguments(&self) -> model::payload::Body {
        let message = self.to_message();
        let back = Body::of_message(message.bytes.clone(), message.content_type, None);
        if back.arguments_json() == self.arguments_json() {
            return message;
        }
        let json = self.both_json();
        model::payload::Body { bytes: json.into(), content_type: Some(payload::JSON_TYPE), is_utf8: true }
    }

    /// One line of JSON: the argument, if it is the only one, else the list, or an object of both kinds. `null` if there is none.
    pub fn json(&self) -> String {
        match (self.lone(), &self.kwargs) {
            (Some(value), _) => compact(value.get()),
            (None, None) if self.args.is_empty() => "null".to_owned(),
            (None, None) => self.args_json(),
            (None, Some(_)) => self.both_json(),
        }
    }

    /// One line of JSON in a form that does not depend on the number of arguments: the list, or an object of `args` and `kwargs`
    /// if there are keyword arguments.
    pub fn arguments_json(&self) -> String {
        if self.kwargs.is_some() { self.both_json() } else { self.args_json() }
    }

    /// One line for people. A text stands without its quotes, as long as nobody could take it for anything else: it is one line, no
    /// JSON, and does not begin like binary. Binary is `hex:` and its digits, anything else JSON. Empty if it says nothing.
    pub fn line(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        if let Some(bytes) = self.binary_value() {
            return bytes.iter().fold(HEX.to_owned(), |line, byte| line + &format!("{byte:02x}"));
        }
        let is_taken_for_itself = |text: &String| !text.starts_with(HEX) && !payload::is_json(text);
        self.sentence().filter(is_taken_for_itself).unwrap_or_else(|| self.json())
    }

    /// The one argument, if it is a text of one line.
    pub fn sentence(&self) -> Option<String> {
        let text: String = serde_json::from_str(self.lone()?.get()).ok()?;
        Some(text).filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
    }

    /// True for the empty value: no arguments of either kind.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty() && self.kwargs.is_none()
    }

    fn lone(&self) -> Option<&RawValue> {
        match (self.args.as_slice(), &self.kwargs) {
            ([value], None) => Some(value),
            _ => None,
        }
    }

    /// The one value, if it is binary.
    fn binary_value(&self) -> Option<Vec<u8>> {
        let text: String = serde_json::from_str(self.lone()?.get()).ok()?;
        STANDARD.decode(text.strip_prefix('\0')?).ok()
    }

    fn args_json(&self) -> String {
        let values: Vec<String> = self.args.iter().map(|value| compact(value.get())).collect();
        format!("[{}]", values.join(","))
    }

    fn both_json(&self) -> String {
        let kwargs = self.kwargs.as_ref().map_or_else(|| "{}".to_owned(), |kwargs| compact(kwargs.get()));
        format!("{{\"args\":{},\"kwargs\":{kwargs}}}", self.args_json())
    }
}

/// The value that `text` spells, by the router's own judgement.
fn json(text: &str) -> Option<Box<RawValue>> {
    Some(text).filter(|text| payload::is_json(text)).and_then(|text| serde_json::from_str(text).ok())
}

fn not_json(text: &str) -> Usage {
    Usage(format!("{text:?} is not JSON; quote it as JSON, or leave out --json to send it as text"))
}

fn object(text: &str) -> Result<Box<RawValue>, Usage> {
    json(text)
        .filter(|value| value.get().starts_with('{'))
        .ok_or_else(|| Usage(format!("--kwargs must be a JSON object such as '{{\"a\":1}}', not {text:?}")))
}

/// No keyword arguments are none.
fn unless_empty(kwargs: Box<RawValue>) -> Option<Box<RawValue>> {
    (compact(kwargs.get()) != "{}").then_some(kwargs)
}

/// `text` as a JSON string.
fn quoted(text: &str) -> Box<RawValue> {
    // A string can always be written.
    serde_json::value::to_raw_value(text).unwrap_or_default()
}

/// `json` without the white space between its tokens, so that it is one line.
pub fn compact(json: &str) -> String {
    let (mut line, mut is_string, mut is_escaped) = (String::with_capacity(json.len()), false, false);
    for c in json.chars() {
        if !is_string && c.is_ascii_whitespace() {
            continue;
        }
        match c {
            '"' if !is_escaped => is_string = !is_string,
            _ => {}
        }
        is_escaped = is_string && c == '\\' && !is_escaped;
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(texts: &[&str], kwargs: Option<&str>) -> Body {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Body::typed(&texts, kwargs, false).unwrap()
    }

    fn of_bytes(bytes: &'static [u8]) -> Body {
        of_bytes_owned(Bytes::from_static(bytes))
    }

    fn of_bytes_owned(bytes: Bytes) -> Body {
        Body::of_message(bytes, None, None)
    }

    #[test]
    fn what_is_typed_becomes_the_forms_of_the_mapping() {
        for (texts, kwargs, bytes, arguments, line) in [
            (&["hello"][..], None, "hello", r#"["hello"]"#, "hello"),
            (&["\"hello\""], None, "hello", r#"["hello"]"#, "hello"),
            (&["\"5\""], None, "\"5\"", r#"["5"]"#, "\"5\""),
            (&["\"\\\"q\\\"\""], None, r#""\"q\"""#, r#"["\"q\""]"#, r#""\"q\"""#),
            (&["\"\""], None, "\"\"", r#"[""]"#, "\"\""),
            (&["21.50"], None, "21.50", "[21.50]", "21.50"),
            (
                &[" {\"b\": 1,\n \"a\": \"x \\\" y\"} "],
                None,
                r#"{"b":1,"a":"x \" y"}"#,
                r#"[{"b":1,"a":"x \" y"}]"#,
                r#"{"b":1,"a":"x \" y"}"#,
            ),
            (&["1", "two"], None, r#"[1,"two"]"#, r#"[1,"two"]"#, r#"[1,"two"]"#),
            (&[], Some("{\"a\":1}"), r#"{"a":1}"#, r#"{"args":[],"kwargs":{"a":1}}"#, r#"{"args":[],"kwargs":{"a":1}}"#),
            (&["x"], Some("{ }"), "x", r#"["x"]"#, "x"),
            (
                &["x"],
                Some("{\"a\":1}"),
                r#"{"args":["x"],"kwargs":{"a":1}}"#,
                r#"{"args":["x"],"kwargs":{"a":1}}"#,
                r#"{"args":["x"],"kwargs":{"a":1}}"#,
            ),
            (&[""], None, "", "[]", ""),
            (&["null"], None, "null", "[null]", "null"),
            (&["a\nb"], None, "a\nb", r#"["a\nb"]"#, r#""a\nb""#),
            (&["a\u{1b}[0m"], None, "a\u{1b}[0m", r#"["a\u001b[0m"]"#, r#""a\u001b[0m""#),
            (&["hex:ff"], None, "hex:ff", r#"["hex:ff"]"#, r#""hex:ff""#),
        ] {
            let body = typed(texts, kwargs);
            assert_eq!(body.to_message().bytes, bytes, "{texts:?}");
            assert_eq!(body.arguments_json(), arguments, "{texts:?}");
            assert_eq!(body.line(), line, "{texts:?}");
            assert_eq!(Body::of_payload(&body.to_payload()).line(), line, "{texts:?}");
        }
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [
            &b"\"hello\""[..],
            b"{\"a\":1}",
            b"",
            b"\xff\x00\x01",
            b"[1,2]",
            b"{\"args\":[1],\"kwargs\":{\"b\":2}}",
            b"12345678901234567890123",
        ] {
            let body = of_bytes(bytes);
            assert_eq!(of_bytes_owned(body.to_arguments().bytes).arguments_json(), body.arguments_json());
        }
        for bytes in [&b"{\"a\":1}"[..], b"", b"\xff\x00\x01", b"[1,2]", b"1.50", b"ON", b"a\0b\x1b\n"] {
            assert_eq!(of_bytes(bytes).to_message().bytes, bytes);
        }
        let body = of_bytes(b"{\"args\":[1],\"kwargs\":{\"b\":2}}");
        assert_eq!((body.args.len(), body.kwargs.is_some()), (1, true));
        let body = of_bytes(b"{\"args\":[1],\"kwargs\":{},\"more\":0}");
        assert_eq!((body.args.len(), body.kwargs.is_some()), (1, false));
        assert_eq!((of_bytes(b"\xff").line(), of_bytes(b"\0\0").line()), ("hex:ff".to_owned(), "hex:0000".to_owned()));
        assert_eq!(Body::binary(Bytes::from_static(b"1")).line(), "hex:31");
    }

    #[test]
    fn arguments_of_calls_stay_what_they_are() {
        for (texts, kwargs, bytes) in [
            (&["1", "two"][..], None, r#"{"args":[1,"two"],"kwargs":{}}"#),
            (&[], Some("{\"a\":1}"), r#"{"args":[],"kwargs":{"a":1}}"#),
            (&["x"], Some("{\"a\":1}"), r#"{"args":["x"],"kwargs":{"a":1}}"#),
            (&["{\"args\":[1],\"kwargs\":{}}"], None, r#"{"args":[{"args":[1],"kwargs":{}}],"kwargs":{}}"#),
            (&["on"], None, "on"),
            (&["\"5\""], None, "\"5\""),
            (&["[1,2]"], None, "[1,2]"),
            (&[], None, ""),
        ] {
            assert_eq!(typed(texts, kwargs).to_arguments().bytes, bytes, "{texts:?}");
        }
        assert_eq!(Body::binary(Bytes::from_static(b"1")).to_arguments().bytes, "1");
    }

    #[test]
    fn strict_takes_json_only() {
        let texts = ["hello".to_owned()];
        assert!(Body::typed(&texts, None, true).unwrap_err().0.contains("--json"));
        assert!(Body::typed(&["1".to_owned(), "x".to_owned()], None, true).is_err());
        assert!(Body::typed(&["\"hello\"".to_owned()], None, true).is_ok());
        assert!(Body::typed(&[], Some("[1]"), false).unwrap_err().0.contains("JSON object"));
    }
}
