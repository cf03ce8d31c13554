//! Refusals as sentences with the name of what was refused, for people at either end of both protocols.
use super::Reason;
use super::names::Root;
use super::text::shown;

/// Why a call of `procedure` has failed, in the spelling of whoever called it.
pub fn of_call(procedure: &str, reason: Reason) -> String {
    let name = shown(procedure);
    match reason {
        Reason::NoSuchProcedure if is_own(procedure) => format!("the router has no procedure {name}"),
        Reason::NoSuchProcedure => format!("no callee is registered for {name}"),
        Reason::Canceled => format!("the call of {name} was canceled"),
        Reason::Timeout => format!("{name} did not answer within the time that the call gives it"),
        Reason::Unavailable => format!("no callee of {name} is available"),
        Reason::QuotaExceeded => {
            format!(
                "{name}: more than the router lets wait at a time; call again later, or raise the bound in its table [limits]"
            )
        }
        Reason::InvalidTopic => {
            format!(
                "{name}: the name in its arguments has a space, a # or an empty level, or too many levels; write it like jobs/resize"
            )
        }
        Reason::MessageTooLarge => format!("the call of {name} is larger than its callee takes"),
        reason => format!("{name}: {reason}"),
    }
}

/// True for names that belong to the router, in either spelling.
fn is_own(name: &str) -> bool {
    name.split(['.', '/']).next().is_some_and(|root| Root::of(root).is_some())
}

/// Which request about a name was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To publish to a topic.
    Publish,
    /// To subscribe to topics.
    Subscribe,
    /// To serve procedures.
    Register,
    /// To call a procedure.
    Call,
    /// To join a realm.
    Join,
    /// To give up the subscription with this id.
    Unsubscribe,
    /// To give up the registration with this id.
    Unregister,
}

/// Why a request about `name` was refused.
pub fn of_wish(wish: Wish, name: &str, reason: Reason) -> String {
    let name = shown(name);
    let verb = match wish {
        Wish::Publish => "publish to",
        Wish::Subscribe => "subscribe to",
        Wish::Register => "register",
        Wish::Call => "call",
        Wish::Join => "join the realm",
        Wish::Unsubscribe => "unsubscribe from",
        Wish::Unregister => "unregister",
    };
    match reason {
        Reason::InvalidTopic | Reason::InvalidFilter => {
            let patterns =
                if wish == Wish::Subscribe { "; for several topics say match: \"prefix\" or \"wildcard\"" } else { "" };
            format!(
                "cannot {verb} {name}: a name has no spaces, no #, nothing empty between dots and not too many levels{patterns}"
            )
        }
        Reason::ProcedureAlreadyExists => format!("{name} is registered already, and not shared"),
        Reason::InvocationPolicyConflict => format!("{name} is registered under another invocation policy: ask for that one"),
        Reason::NoSuchSubscription => format!("this session has no subscription with the id {name}"),
        Reason::NoSuchRegistration => format!("this session has no registration with the id {name}"),
        Reason::ConditionFailed => format!("not published: the value of {name} does not fit the condition"),
        reason => format!("cannot {verb} {name}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_what_they_are_about() {
        assert_eq!(of_call("demo.x", Reason::NoSuchProcedure), "no callee is registered for demo.x");
        assert_eq!(of_call("corsac/history/raed", Reason::NoSuchProcedure), "the router has no procedure corsac/history/raed");
        assert_eq!(of_call("corsacs.x", Reason::NoSuchProcedure), "no callee is registered for corsacs.x");
        let refused = of_call("corsac.queue.put", Reason::InvalidTopic);
        assert!(refused.starts_with("corsac.queue.put: ") && refused.contains("a space"), "{refused}");
        assert_eq!(of_call("a", Reason::NoHistory), "a: there is no history; start the router without --memory");
        let refused = of_wish(Wish::Publish, "demo.a\u{1}b", Reason::UnfitCharacter('\u{1}'));
        assert!(refused.contains("demo.a\\u{1}b") && refused.contains("U+0001"), "{refused}");
        let refused = of_wish(Wish::Publish, "wamp.x", Reason::ReservedName(Root::Wamp));
        assert!(refused.starts_with("cannot publish to wamp.x: ") && refused.contains("belong to the router"), "{refused}");
        assert!(of_wish(Wish::Subscribe, "a b", Reason::InvalidFilter).contains("no spaces"));
        assert!(of_wish(Wish::Unregister, "7", Reason::NoSuchRegistration).contains('7'));
    }
}
