//! What crosses the border: the structs of text/mole_text.h, field by field, and the guard that
//! turns errors and panics into a status.

use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

pub const CODE_OK: i32 = 0;
pub const CODE_INVALID_ARGUMENT: i32 = 1;
pub const CODE_INTERNAL: i32 = 2;
pub const CODE_OUT_OF_FUEL: i32 = 3;

/// An error on its way to the border.
#[derive(Debug)]
pub struct Failure {
    pub code: i32,
    pub message: String,
}

impl Failure {
    pub fn invalid(message: impl Into<String>) -> Self {
        Failure { code: CODE_INVALID_ARGUMENT, message: message.into() }
    }

    pub fn out_of_fuel(message: impl Into<String>) -> Self {
        Failure { code: CODE_OUT_OF_FUEL, message: message.into() }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Failure { code: CODE_INTERNAL, message: message.into() }
    }
}

pub type Outcome<T> = Result<T, Failure>;

#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    size: usize,
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let boxed = bytes.into_boxed_slice();
        let size = boxed.len();
        Bytes { data: Box::into_raw(boxed).cast(), size }
    }
}

#[repr(C)]
pub struct Ids {
    data: *mut u32,
    size: usize,
}

impl From<Vec<u32>> for Ids {
    fn from(ids: Vec<u32>) -> Self {
        let boxed = ids.into_boxed_slice();
        let size = boxed.len();
        Ids { data: Box::into_raw(boxed).cast(), size }
    }
}

#[repr(C)]
pub struct Status {
    code: i32,
    message: Bytes,
}

#[repr(C)]
pub struct TokenView {
    pub spelling: *const u8,
    pub spelling_size: usize,
    pub text: *const u8,
    pub text_size: usize,
    pub text_at_start: *const u8,
    pub text_at_start_size: usize,
    pub flags: u32,
}

#[repr(C)]
pub struct ShapeView {
    pub vocab_size: u32,
    pub join: u32,
    pub strip: *const u8,
    pub strip_size: usize,
    pub strip_count: u32,
}

#[repr(C)]
pub struct Prompt {
    pub text: Bytes,
    pub ids: Ids,
}

#[repr(C)]
pub struct TemplateInput {
    pub messages: *const u8,
    pub messages_size: usize,
    pub tools: *const u8,
    pub tools_size: usize,
    pub kwargs: *const u8,
    pub kwargs_size: usize,
    pub add_generation_prompt: i32,
}

/// Frees what `Bytes::from` gave away.
///
/// # Safety
/// `bytes` comes from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn mole_text_bytes_free(bytes: Bytes) {
    if !bytes.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(bytes.data, bytes.size)));
    }
}

/// Frees what `Ids::from` gave away.
///
/// # Safety
/// `ids` comes from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn mole_text_ids_free(ids: Ids) {
    if !ids.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(ids.data, ids.size)));
    }
}

/// The caller's bytes; C++ may pass a null pointer with size 0.
///
/// # Safety
/// `data` points to `size` readable elements that outlive the call.
pub unsafe fn view<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

/// `what` names the value in the error.
pub fn utf8<'a>(bytes: &'a [u8], what: &str) -> Outcome<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        Failure::invalid(format!("{what} is not UTF-8: wrong at byte {}", error.valid_up_to()))
    })
}

/// What a panic said. Panics here are errors of a crate on odd input, so they don't go to stderr.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "unknown panic".to_string()
    }
}

fn silence_panics() {
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

/// Runs `body` and gives its value, or what it or its panic said.
pub fn caught<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    silence_panics();
    catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|panic| Err(Failure::internal(panic_text(panic.as_ref()))))
}

/// Runs `body` at the border: writes its value to `out`, or says why not.
///
/// # Safety
/// `out` is valid for one write.
pub unsafe fn guarded<T>(out: *mut T, body: impl FnOnce() -> Outcome<T>) -> Status {
    match caught(body) {
        Ok(value) => {
            out.write(value);
            Status { code: CODE_OK, message: Bytes { data: std::ptr::null_mut(), size: 0 } }
        }
        Err(failure) => Status { code: failure.code, message: failure.message.into_bytes().into() },
    }
}
