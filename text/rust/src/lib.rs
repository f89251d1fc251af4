//! The functions of text/mole_text.h. Each only turns pointers into slices and calls the module that
//! does the work, inside the guard of border.rs.
//!
//! Safety, for all functions: the pointers are what the header says they are.
#![allow(clippy::missing_safety_doc)]

mod border;
mod chat_template;
mod decoder_shape;
mod plain_text;
mod python_text;
mod tokenizer;
mod train;

use border::{
    guarded, utf8, view, Bytes, Failure, Ids, Outcome, Prompt, ShapeView, Status, TemplateInput,
    TokenView,
};
use chat_template::{ChatTemplate, Limits, Variables};
use tokenizer::Tokenizer;
use train::Trainer;

#[no_mangle]
pub unsafe extern "C" fn mole_text_tokenizer_load(
    json: *const u8,
    json_size: usize,
    out: *mut *mut Tokenizer,
) -> Status {
    guarded(out, || {
        let json = utf8(view(json, json_size), "the file")?;
        Ok(Box::into_raw(Box::new(Tokenizer::load(json)?)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_tokenizer_shape(tokenizer: *const Tokenizer) -> ShapeView {
    (*tokenizer).shape()
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_tokenizer_token(
    tokenizer: *const Tokenizer,
    id: u32,
) -> TokenView {
    (*tokenizer).token(id)
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_tokenizer_token_to_id(
    tokenizer: *const Tokenizer,
    token: *const u8,
    token_size: usize,
    id: *mut u32,
) -> i32 {
    let found = border::caught(|| {
        let token = utf8(view(token, token_size), "the token")?;
        (*tokenizer).token_to_id(token).ok_or_else(|| Failure::invalid("no such token"))
    });
    match found {
        Ok(found) => {
            id.write(found);
            1
        }
        Err(_) => 0,
    }
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: *const u8,
    text_size: usize,
    add_special_tokens: i32,
    parse_special_tokens: i32,
    out: *mut Ids,
) -> Status {
    guarded(out, || {
        let text = utf8(view(text, text_size), "the text")?;
        let ids = (*tokenizer).encode(text, add_special_tokens != 0, parse_special_tokens != 0)?;
        Ok(ids.into())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    ids_size: usize,
    skip_special_tokens: i32,
    out: *mut Bytes,
) -> Status {
    guarded(out, || {
        let text = (*tokenizer).decode(view(ids, ids_size), skip_special_tokens != 0)?;
        Ok(text.into_bytes().into())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_template_parse(
    source: *const u8,
    source_size: usize,
    special_tokens: *const u8,
    special_tokens_size: usize,
    out: *mut *mut ChatTemplate,
) -> Status {
    guarded(out, || {
        let source = utf8(view(source, source_size), "the template")?;
        let special_tokens = utf8(view(special_tokens, special_tokens_size), "special_tokens")?;
        Ok(Box::into_raw(Box::new(ChatTemplate::parse(source, special_tokens)?)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_template_free(chat_template: *mut ChatTemplate) {
    if !chat_template.is_null() {
        drop(Box::from_raw(chat_template));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_template_render(
    chat_template: *const ChatTemplate,
    input: *const TemplateInput,
    fuel: u64,
    output_max: u64,
    out: *mut Bytes,
) -> Status {
    guarded(out, || {
        let variables = variables(&*input)?;
        let text = (*chat_template).render(&variables, None, Limits { fuel, output_max })?;
        Ok(text.into_bytes().into())
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_template_encode(
    chat_template: *const ChatTemplate,
    tokenizer: *const Tokenizer,
    input: *const TemplateInput,
    add_special_tokens: i32,
    fuel: u64,
    output_max: u64,
    out: *mut Prompt,
) -> Status {
    guarded(out, || {
        let variables = variables(&*input)?;
        let guard = Some((*tokenizer).guard());
        let text = (*chat_template).render(&variables, guard, Limits { fuel, output_max })?;
        let ids = (*tokenizer).encode_guarded(&text, add_special_tokens != 0)?;
        let text = plain_text::without_guards(&text);
        Ok(Prompt { text: text.into_bytes().into(), ids: ids.into() })
    })
}

unsafe fn variables(input: &TemplateInput) -> Outcome<Variables<'_>> {
    Ok(Variables {
        messages: utf8(view(input.messages, input.messages_size), "messages")?,
        tools: utf8(view(input.tools, input.tools_size), "tools")?,
        kwargs: utf8(view(input.kwargs, input.kwargs_size), "chat_template_kwargs")?,
        add_generation_prompt: input.add_generation_prompt != 0,
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_trainer_new(
    options: *const u8,
    options_size: usize,
    out: *mut *mut Trainer,
) -> Status {
    guarded(out, || {
        let options = utf8(view(options, options_size), "the options")?;
        Ok(Box::into_raw(Box::new(Trainer::new(options)?)))
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_trainer_free(trainer: *mut Trainer) {
    if !trainer.is_null() {
        drop(Box::from_raw(trainer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_trainer_feed(
    trainer: *mut Trainer,
    text: *const u8,
    text_size: usize,
) -> Status {
    let mut done = ();
    guarded(&mut done, || {
        let text = utf8(view(text, text_size), "the text")?;
        (*trainer).feed(text)
    })
}

#[no_mangle]
pub unsafe extern "C" fn mole_text_trainer_finish(
    trainer: *mut Trainer,
    out: *mut Bytes,
) -> Status {
    guarded(out, || Ok((*trainer).finish()?.into_bytes().into()))
}
