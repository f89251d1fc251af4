//! A chat template, set up as transformers sets up Jinja2 (trim_blocks, lstrip_blocks, loop
//! controls, its `tojson`, `raise_exception`, `strftime_now`), without any access to the host and
//! with bounds on instructions, nesting and output.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value as Json};

use crate::border::{caught, Failure, Outcome};
use crate::plain_text::Guard;
use crate::python_text::{json_of, str_of, JsonStyle};

const NAME: &str = "chat_template";
/// Published templates stay below 30 KiB. The parser takes quadratic time for long operator chains:
/// seconds for a file of this size that is nothing else.
const SOURCE_BYTES_MAX: usize = 64 << 10;
/// Long operator chains nest in the syntax tree and lists of lists in values, up to one level per
/// two source bytes or some instructions, and minijinja walks both by recursion without a bound. On a
/// stack of this size it stays below the end (ChatTemplate.SurvivesDeepTreesAndValues drives it
/// there); only touched pages cost memory.
const STACK_BYTES: usize = 256 << 20;
const INDENT_MAX: usize = 64;
/// Variables of ours that kwargs may not replace.
const RESERVED: [&str; 3] = ["messages", "tools", "add_generation_prompt"];

pub struct Limits {
    pub fuel: u64,
    pub output_max: u64,
}

/// JSON texts, as the client wrote them.
pub struct Variables<'a> {
    pub messages: &'a str,
    pub tools: &'a str,
    pub kwargs: &'a str,
    pub add_generation_prompt: bool,
}

pub struct ChatTemplate {
    env: Environment<'static>,
    special_tokens: Map<String, Json>,
}

thread_local! {
    /// Bytes that this rendering may still format, captured blocks included.
    static BYTES_LEFT: Cell<u64> = const { Cell::new(0) };
    /// What the template said to raise_exception().
    static RAISED: RefCell<Option<String>> = const { RefCell::new(None) };
}

impl ChatTemplate {
    pub fn parse(source: &str, special_tokens: &str) -> Outcome<Self> {
        let special_tokens = object_or_null(special_tokens, "special_tokens")?;
        if source.len() > SOURCE_BYTES_MAX {
            return Err(Failure::invalid(format!(
                "the chat template has {} bytes; accepted are at most {SOURCE_BYTES_MAX}",
                source.len()
            )));
        }
        let source = without_generation_tags(source);
        on_deep_stack(move || {
            let mut env = environment();
            env.add_template_owned(NAME, source)
                .map_err(|e| Failure::invalid(format!("the chat template is wrong: {e}")))?;
            Ok(ChatTemplate { env, special_tokens })
        })
    }

    /// With a guard, control tokens in the variables come out marked.
    pub fn render(
        &self,
        variables: &Variables,
        guard: Option<&Guard>,
        limits: Limits,
    ) -> Outcome<String> {
        let mut messages = json_value(variables.messages, "messages")?;
        let mut tools = json_value(variables.tools, "tools")?;
        let mut kwargs = object_or_null(variables.kwargs, "chat_template_kwargs")?;
        if let Some(guard) = guard {
            guard.mark(&mut messages);
            guard.mark(&mut tools);
            guard.mark_object(&mut kwargs);
        }
        let mut context = self.special_tokens.clone();
        for (name, value) in kwargs {
            if RESERVED.contains(&name.as_str()) {
                let message = format!("chat_template_kwargs may not hold {name:?}");
                return Err(Failure::invalid(message));
            }
            context.insert(name, value);
        }
        context.insert("messages".into(), messages);
        context.insert("tools".into(), tools);
        context.insert("add_generation_prompt".into(), variables.add_generation_prompt.into());
        let mut env = self.env.clone();
        env.set_fuel(Some(limits.fuel));
        on_deep_stack(move || render_on_this_thread(&env, &context, &limits))
    }
}

fn json_value(text: &str, what: &str) -> Outcome<Json> {
    serde_json::from_str(text).map_err(|e| Failure::invalid(format!("{what}: not JSON: {e}")))
}

fn object_or_null(text: &str, what: &str) -> Outcome<Map<String, Json>> {
    match json_value(text, what)? {
        Json::Object(object) => Ok(object),
        Json::Null => Ok(Map::new()),
        _ => Err(Failure::invalid(format!("{what} is not an object"))),
    }
}

fn render_on_this_thread(
    env: &Environment,
    context: &Map<String, Json>,
    limits: &Limits,
) -> Outcome<String> {
    BYTES_LEFT.set(limits.output_max);
    let template = env.get_template(NAME).map_err(|e| Failure::internal(e.to_string()))?;
    let mut output = BoundedOutput { text: Vec::new(), bytes_max: limits.output_max };
    let result = template.render_captured_to(context, &mut output).map(|_| ());
    match result {
        Ok(()) => String::from_utf8(output.text).map_err(|e| Failure::internal(e.to_string())),
        Err(error) => Err(explain(&error, limits)),
    }
}

fn explain(error: &Error, limits: &Limits) -> Failure {
    if let Some(raised) = RAISED.take() {
        let message = format!("the chat template refuses the conversation: {raised}");
        return Failure::invalid(message);
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Failure::out_of_fuel(format!(
            "the chat template runs longer than {} instructions",
            limits.fuel
        )),
        ErrorKind::WriteFailure => Failure::invalid(too_long(limits.output_max)),
        _ => Failure::invalid(format!("the chat template fails: {error}")),
    }
}

fn too_long(bytes_max: u64) -> String {
    format!("the chat template writes more than {bytes_max} bytes")
}

/// Runs `body` on a thread of its own, with a stack for the deepest nesting that the bounds allow.
fn on_deep_stack<T: Send>(body: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || caught(body))
            .map_err(|e| Failure::internal(format!("no thread for the chat template: {e}")))?
            .join()
            .unwrap_or_else(|_| Err(Failure::internal("the template's thread panicked")))
    })
}

struct BoundedOutput {
    text: Vec<u8>,
    bytes_max: u64,
}

impl io::Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.text.len() + bytes.len()) as u64 > self.bytes_max {
            return Err(io::Error::other(too_long(self.bytes_max)));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.set_formatter(|out, _, value| {
        let text = str_of(value)?;
        let left = BYTES_LEFT.get().checked_sub(text.len() as u64).ok_or_else(|| {
            Error::new(ErrorKind::WriteFailure, "the chat template writes too much")
        })?;
        BYTES_LEFT.set(left);
        out.write_str(&text).map_err(Error::from)
    });
    env.add_filter("tojson", tojson);
    env.add_filter("string", |value: Value| str_of(&value));
    env.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        let message = str_of(&message)?;
        RAISED.set(Some(message.clone()));
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", strftime_now);
    env
}

/// transformers' `tojson`: json.dumps without HTML escapes; non-ASCII stays as it is.
fn tojson(value: Value, ensure_ascii: Option<bool>, args: Kwargs) -> Result<String, Error> {
    let by_name: Option<bool> = args.get("ensure_ascii")?;
    let indent: Option<usize> = args.get("indent")?;
    let separators: Option<Vec<String>> = args.get("separators")?;
    let sort_keys: Option<bool> = args.get("sort_keys")?;
    args.assert_all_used()?;
    if indent.is_some_and(|width| width > INDENT_MAX) {
        let message = format!("tojson: indent is above {INDENT_MAX}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            let message = "tojson: separators must be (item, key)";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        None if indent.is_some() => (",".to_string(), ": ".to_string()),
        None => (", ".to_string(), ": ".to_string()),
    };
    let style = JsonStyle {
        ensure_ascii: by_name.or(ensure_ascii).unwrap_or(false),
        indent,
        item_separator,
        key_separator,
        sort_keys: sort_keys.unwrap_or(false),
    };
    json_of(&value, &style)
}

/// The local time, as `datetime.now().strftime(format)`.
fn strftime_now(format: String) -> Result<String, Error> {
    let wrong =
        |what: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {what}"));
    if format.is_empty() {
        return Ok(String::new());
    }
    let format = CString::new(format).map_err(|_| wrong("the format contains NUL"))?;
    let mut buffer = [0u8; 1024];
    // Safety: localtime_r fills `fields`, strftime writes at most buffer.len() bytes and reads a
    // NUL-terminated format.
    let written = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut fields: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut fields).is_null() {
            return Err(wrong("no local time"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &fields)
    };
    if written == 0 {
        return Err(wrong("the result is empty or longer than 1023 bytes"));
    }
    Ok(String::from_utf8_lossy(&buffer[..written]).into_owned())
}

/// transformers marks the assistant's part with {% generation %}…{% endgeneration %} for training
/// masks. For a prompt these tags mean nothing, so they become an `if` that is always true.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start + 2..].find("%}") else {
            break;
        };
        let inside = &rest[start + 2..start + 2 + length];
        let is_mark = |c: char| c == '-' || c == '+';
        let word = inside.trim_start_matches(is_mark).trim_end_matches(is_mark).trim();
        let replacement = match word {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(&rest[..start + 2]);
        match replacement {
            Some(replacement) => out.push_str(&inside.replace(word, &format!(" {replacement} "))),
            None => out.push_str(inside),
        }
        out.push_str("%}");
        rest = &rest[start + 2 + length + 2..];
    }
    out.push_str(rest);
    out
}
