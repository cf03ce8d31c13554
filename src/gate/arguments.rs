//! Decodes the arguments of calls that the router itself answers; those of all others stay as they arrived.
use serde_json::Value;

use crate::model::arguments::Arguments;
use crate::model::command::{Acknowledge, Call, ReplyTo};
use crate::model::names::{NACK, PUT};
use crate::model::properties::Properties;
use crate::model::{Command, Encoding, Payload, Reason, Topic};
use crate::wire::payload;

/// The arguments of a call, decoded if `procedure` is a name of the router's own, and the payload that the call carries on. Of a
/// put this is only the body that is put.
pub fn take(procedure: &Topic, payload: Payload, properties: Option<&Properties>) -> (Option<Decoded>, Payload) {
    if !procedure.is_reserved() || procedure.as_uri() != PUT {
        return (decode(procedure, &payload, properties), payload);
    }
    let (body, rest) = payload::split(&payload, properties, 1, "body").unwrap_or((Payload::empty(), payload));
    // The rest has its own encoding.
    let properties = properties.filter(|_| matches!(rest, Payload::Bytes(_)));
    (decode(procedure, &rest, properties), body)
}

/// Arguments, or why there are none.
pub type Decoded = Result<Box<Arguments>, Reason>;

/// The arguments of a call of `procedure`, if it is a name of the router's own.
fn decode(procedure: &Topic, payload: &Payload, properties: Option<&Properties>) -> Option<Decoded> {
    procedure.is_reserved().then(|| {
        let Payload::Args { args, kwargs, .. } = payload::to_args(payload, properties, Encoding::Json) else {
            return Err(Reason::InvalidArgument);
        };
        let list = match parse(&args)? {
            Value::Array(list) => list,
            _ => Vec::new(),
        };
        let named = match parse(&kwargs)? {
            Value::Object(named) => named,
            _ => serde_json::Map::new(),
        };
        Ok(Box::new(Arguments { list, named }))
    })
}

fn parse(json: &[u8]) -> Result<Value, Reason> {
    if json.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(json).map_err(|_| Reason::InvalidArgument) }
}

/// Names the items of a queue that an answer brings by their tokens.
pub fn items(payload: &Payload) -> Vec<Value> {
    let Payload::List(parts) = payload else { return Vec::new() };
    parts.iter().filter_map(|part| part.head.get("token").cloned()).collect()
}

/// Returns an item, whose taker could not be sent it, to its queue.
pub fn give_back(token: Value) -> Option<Command> {
    Some(Command::Call(Box::new(Call {
        reply: ReplyTo::Nobody,
        acknowledge: Acknowledge::None,
        procedure: Topic::from_uri(NACK).ok()?,
        payload: Payload::empty(),
        timeout_ms: 0,
        receive_progress: false,
        disclose_me: false,
        properties: None,
        arguments: Some(Ok(Box::new(Arguments { list: vec![token], named: serde_json::Map::new() }))),
    })))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_calls_of_the_router_are_decoded() {
        let own = Topic::from_uri("corsac.lock.acquire").unwrap();
        let payload = Payload::Bytes(r#"{"args":["a",{"ttl_ms":5}],"kwargs":{"wait_ms":7}}"#.into());
        let arguments = decode(&own, &payload, None).unwrap().unwrap();
        assert_eq!(arguments.list, [json!("a"), json!({"ttl_ms": 5})]);
        assert_eq!(arguments.named["wait_ms"], 7);
        let text = decode(&own, &Payload::Bytes("a lock".into()), None).unwrap().unwrap();
        assert_eq!(text.list, [json!("a lock")]);
        assert_eq!(decode(&own, &Payload::empty(), None).unwrap(), Ok(Box::default()));
        let nested = decode(&own, &Payload::Bytes("[".repeat(10_000).into()), None).unwrap();
        assert!(nested.is_ok_and(|arguments| arguments.list.len() == 1));
        assert_eq!(decode(&Topic::from_uri("com.a").unwrap(), &payload, None), None);
    }

    #[test]
    fn what_is_put_stays_as_it_arrived() {
        let put = Topic::from_uri(PUT).unwrap();
        // Deeper than the router would decode.
        let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
        let args = format!("[\"q\",{deep},{{\"delay_ms\":5}}]");
        let payload = Payload::Args { encoding: Encoding::Json, args: args.into(), kwargs: Default::default() };
        let (arguments, body) = take(&put, payload, None);
        assert_eq!(arguments.unwrap().unwrap().list, [json!("q"), json!(null), json!({"delay_ms": 5})]);
        assert_eq!(
            body,
            Payload::Args { encoding: Encoding::Json, args: format!("[{deep}]").into(), kwargs: Default::default() }
        );
        let (arguments, body) = take(&put, Payload::Bytes("q".into()), None);
        assert_eq!((arguments.unwrap().unwrap().list, body), (vec![json!("q")], Payload::empty()));
        let other = Topic::from_uri("corsac.queue.take").unwrap();
        let payload = Payload::Bytes("[\"q\",5]".into());
        assert_eq!(take(&other, payload.clone(), None).1, payload);
    }
}
