//! Carries a plugin's questions to the thread that may ask them.
//!
//! The age crate wants callbacks that are `'static`, `Send` and cloned into helper threads; a person is asked by borrowed
//! things of one thread. So the plugin runs in a thread of its own, and its questions come over a channel.

use age::secrecy::SecretString;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::Ask;
use crate::ground::{Error, Result};

enum Question {
    Tell(String),
    Confirm { question: String, yes: String, no: Option<String>, answer: Sender<Option<bool>> },
    Text { what: String, answer: Sender<Option<String>> },
    Secret { what: String, answer: Sender<Option<SecretString>> },
    Done,
}

/// The callbacks that age's plugin code is given.
#[derive(Clone)]
pub(super) struct Bridge(Sender<Question>);

impl Bridge {
    fn put<T>(&self, question: impl FnOnce(Sender<Option<T>>) -> Question) -> Option<T> {
        let (answer, answered) = bounded(1);
        self.0.send(question(answer)).ok()?;
        answered.recv().ok().flatten()
    }
}

impl age::Callbacks for Bridge {
    fn display_message(&self, message: &str) {
        // A message nobody listens to any more is lost without harm.
        let _ = self.0.send(Question::Tell(plain(message)));
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        self.put(|answer| Question::Confirm { question: plain(message), yes: plain(yes), no: no.map(plain), answer })
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.put(|answer| Question::Text { what: plain(description), answer })
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        self.put(|answer| Question::Secret { what: plain(description), answer })
    }
}

/// Runs `work` in a thread of its own and answers its questions here.
///
/// An error of the person asked is an error of the whole, whatever the plugin made of it.
pub(super) fn with_questions<T: Send>(ask: &dyn Ask, work: impl FnOnce(Bridge) -> T + Send) -> Result<T> {
    let (sender, receiver) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let result = work(Bridge(sender.clone()));
            // age's own timer thread may hold its sender a while longer.
            let _ = sender.send(Question::Done);
            result
        });
        let mut refused = None;
        answer(ask, &receiver, &mut refused);
        // If the worker panicked there is no Done; the channel has closed then.
        let result = worker.join().map_err(|_| Error::failed("the code that talks to an age plugin panicked"))?;
        refused.map_or(Ok(result), Err)
    })
}

fn answer(ask: &dyn Ask, questions: &Receiver<Question>, refused: &mut Option<Error>) {
    for question in questions {
        // A plugin that gave up on its question is no concern of ours.
        let _ = match question {
            Question::Done => return,
            Question::Tell(line) => {
                ask.tell(&line);
                Ok(())
            }
            Question::Confirm { question, yes, no, answer } => {
                answer.send(ask.confirm(&question, &yes, no.as_deref())).map_err(|_| ())
            }
            Question::Text { what, answer } => answer.send(ask.text(&what)).map_err(|_| ()),
            Question::Secret { what, answer } => {
                let secret = ask.passphrase(&what).map_err(|error| *refused = Some(error)).ok();
                answer.send(secret.map(|text| SecretString::from(text.as_str()))).map_err(|_| ())
            }
        };
    }
}

/// The text on one line, without characters that move the cursor or turn the direction of writing.
pub(super) fn plain(text: &str) -> String {
    let turns = |c: &char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = text.chars().filter(|c| !turns(c)).map(|c| if c.is_control() { ' ' } else { c });
    shown.take(1000).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use age::Callbacks as _;
    use age::secrecy::ExposeSecret as _;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn questions_are_answered_on_the_asking_thread() {
        let here = std::thread::current().id();
        let ask = |what: &str| {
            assert_eq!(std::thread::current().id(), here);
            Ok(Zeroizing::new(format!("answer to {what}")))
        };
        let said = with_questions(&ask, |bridge| {
            bridge.display_message("touch it");
            let secret = bridge.request_passphrase("PIN\u{1b}[2J").expect("answered");
            (secret.expose_secret().to_owned(), bridge.confirm("sure?", "yes", None))
        })
        .expect("it ran");
        assert_eq!(said, ("answer to PIN [2J".to_owned(), None));
    }

    #[test]
    fn a_person_who_cannot_be_asked_is_the_error() {
        let ask = |_: &str| Err(Error::usage("there is no terminal"));
        let error = with_questions(&ask, |bridge| bridge.request_passphrase("PIN").is_none()).expect_err("refused");
        assert!(error.chain().contains("no terminal"));
    }
}
