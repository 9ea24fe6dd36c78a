//! What each field must be, in words for error messages.

/// For fields of completions requests of both kinds, of messages and of `/tokenize`.
pub(crate) fn expected(field: &str) -> &'static str {
    match field {
        "model" => "a string, the name of a model",
        "messages" => "a list of messages, each with `role` and `content`",
        "role" => "one of `system`, `developer`, `user`, `assistant`",
        "content" => "a string, or a list of parts of type `text`",
        "prompt" => "a string, a list of strings, a list of token ids, or a list of lists of token ids",
        "tokens" => "a list of token ids",
        "max_tokens" | "max_completion_tokens" => "an integer, at least 1",
        "n" | "best_of" => "an integer, at least 1",
        "temperature" => "a number from 0 to 2",
        "top_p" => "a number above 0 and up to 1",
        "top_k" => "an integer, at least 1, or 0 or -1 for all tokens",
        "min_p" => "a number from 0 to 1",
        "frequency_penalty" | "presence_penalty" => "a number from -2 to 2",
        "repetition_penalty" => "a finite number above 0",
        "logit_bias" => "an object from token id to a number from -100 to 100",
        "logprobs" => "an integer from 0 to 20 (completions), or a boolean (chat)",
        "top_logprobs" => "an integer from 0 to 20",
        "stop" => "a string that is not empty, or a list of up to 16 such strings",
        "seed" => "an integer of 64 bits",
        "priority" => "an integer of 32 bits",
        "stream_options" => "an object with the boolean `include_usage`",
        "chat_template_kwargs" | "metadata" => "an object",
        "name" | "user" | "service_tier" | "safety_identifier" | "prompt_cache_key" => "a string",
        _ => "a boolean",
    }
}

/// For `prompt` of `/tokenize`, which is one text.
pub(crate) fn expected_tokenize(field: &str) -> &'static str {
    if field == "prompt" { "a string" } else { expected(field) }
}
