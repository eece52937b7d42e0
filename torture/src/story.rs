//! What a round did last, kept until it is known whether anybody wants to hear it.
//!
//! A round that fails panics. Its message, and the lines that were told while it unwound, belong into the report of the
//! violation, not among the progress bars.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static LISTENING: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    /// Why this thread panicked last while somebody listened.
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Tells a line: to the report, if this thread is inside [`listen`], else to standard error.
pub fn tell(line: String) {
    LISTENING.with_borrow_mut(|lines| match lines {
        Some(lines) => lines.push(line),
        None => eprintln!("{line}"),
    });
}

/// Does `work`; if it panics, gives the panic's message, and the lines that were told meanwhile.
///
/// # Errors
/// It panicked.
pub fn listen<T>(work: impl FnOnce() -> T) -> Result<T, (String, Vec<String>)> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if LISTENING.with_borrow(Option::is_some) {
                MESSAGE.set(info.to_string());
            } else {
                usual(info);
            }
        }));
    });
    let outer = LISTENING.replace(Some(Vec::new()));
    let done = catch_unwind(AssertUnwindSafe(work));
    let told = LISTENING.replace(outer).unwrap_or_default();
    done.map_err(|_| (MESSAGE.take(), told))
}

#[test]
fn a_panic_is_heard_with_all_that_was_told() {
    assert_eq!(listen(|| 5).unwrap(), 5);
    let told = listen(|| {
        tell("first".into());
        panic!("then this");
    });
    let (message, told) = told.unwrap_err();
    assert_eq!(told, ["first"]);
    assert!(message.contains("then this"), "{message}");
}
