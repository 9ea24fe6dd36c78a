//! The description of the API, generated from the code.

use std::collections::BTreeMap;

use protocol::{ErrorBody, GenerationOptions, RequestOptions};
use utoipa::openapi::schema::{AdditionalProperties, Object, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::claim::CLAIM_PATH;
use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tokenworks",
        description = "An OpenAI-compatible API: chat completions, completions, models, token counts, usage and invoices; and \
                       the administration of customers, prices and books."
    ),
    paths(
        routes::chat::create,
        routes::completions::create,
        routes::next_token::create,
        routes::models::list,
        routes::models::one,
        routes::tokenize::tokenize,
        routes::tokenize::detokenize,
        routes::billing::usage,
        routes::billing::standing,
        routes::billing::invoices::list,
        routes::billing::invoices::one,
        routes::billing::invoices::list_of,
        routes::billing::invoices::one_of,
        routes::billing::organization::completions,
        routes::billing::organization::costs,
        routes::outcomes::feedback,
        routes::outcomes::create,
        routes::outcomes::list,
        routes::tfp::tfp,
        routes::retention::retention,
        routes::experiments::list,
        routes::experiments::results,
        routes::experiments::assign,
        routes::session::show,
        routes::session::begin,
        routes::session::end,
        routes::state::health,
        routes::state::ready,
        routes::state::metrics,
        routes::state::openapi,
        routes::admin::records::list,
        routes::admin::records::one,
        routes::admin::records::put,
        routes::admin::keys::create,
        routes::admin::keys::rotate,
        routes::admin::keys::revoke,
        routes::admin::money::pay,
        routes::admin::money::credit,
        routes::admin::money::standing,
        routes::admin::experiments::stop,
        routes::admin::alerts::list,
        routes::admin::alerts::test,
        routes::admin::audit::audit,
        routes::admin::calibration::calibration,
        routes::admin::report::report,
        routes::admin::statement::statement,
        routes::admin::comparison::comparison,
        routes::admin::plan::plan,
        routes::admin::settings::settings,
        routes::admin::tfp_index::tfp_index,
        routes::admin::requests::list,
        routes::admin::requests::one,
        routes::admin::requests::delete_content,
        routes::admin::requests::delete_project_content,
        routes::admin::costs::costs,
        routes::admin::costs::cost,
        routes::admin::costs::margins,
        routes::admin::history::history,
        routes::admin::live::stream,
        routes::admin::live::snapshot,
        routes::admin::live::recent,
        routes::admin::entries::entries,
        routes::admin::entries::accounts,
        routes::admin::ledger::verify,
        routes::admin::ledger::export,
        routes::admin::ledger::backup,
        routes::admin::models::list,
        routes::admin::models::load,
        routes::admin::models::unload,
        routes::admin::models::pin,
        routes::admin::models::adapters,
        routes::admin::models::load_adapter,
        routes::admin::models::unload_adapter,
        routes::claim::page,
        routes::claim::take
    ),
    modifiers(&Keys, &JsonBodies, &SharedFields),
    security((), ("key" = []))
)]
struct Api;

/// Bearer keys, where the configuration has any.
struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// What the gate answers to any POST whose body is not said to be JSON.
struct JsonBodies;

impl Modify for JsonBodies {
    fn modify(&self, openapi: &mut Document) {
        let content = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
        let refusal = ResponseBuilder::new()
            .description("The body is not plain JSON")
            .content("application/json", content)
            .build();
        // The form of the one-time link is no JSON.
        let paths = openapi.paths.paths.iter_mut().filter(|(path, _)| !path.starts_with(CLAIM_PATH));
        for operation in paths.filter_map(|(_, item)| item.post.as_mut()) {
            operation.responses.responses.entry("415".to_owned()).or_insert_with(|| refusal.clone().into());
        }
    }
}

/// Fields that schemas take over from others, written out in each of them: a reader sees one list. Requests for tokens take
/// no other field.
struct SharedFields;

impl Modify for SharedFields {
    fn modify(&self, openapi: &mut Document) {
        let schemas = &mut openapi.components.get_or_insert_default().schemas;
        let shared = [RequestOptions::name(), GenerationOptions::name()];
        let known = schemas.clone();
        for schema in schemas.values_mut() {
            let RefOr::T(Schema::AllOf(parts)) = schema else { continue };
            let mut whole = Object::new();
            whole.description = parts.description.take();
            let names: Vec<&str> = parts.items.iter().filter_map(named).collect();
            if shared.iter().any(|shared| names.contains(&shared.as_ref())) {
                whole.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
            parts.items.iter().for_each(|part| take_fields(&mut whole, part, &known));
            *schema = RefOr::T(Schema::Object(whole));
        }
        schemas.retain(|name, _| !shared.iter().any(|shared| shared == name));
    }
}

/// The schema that is meant by its name.
fn named(part: &RefOr<Schema>) -> Option<&str> {
    match part {
        RefOr::Ref(part) => part.ref_location.rsplit('/').next(),
        RefOr::T(_) => None,
    }
}

/// Adds the fields of a schema, also of those that it takes over. Of what is there as a whole or not at all, each may be absent.
fn take_fields(whole: &mut Object, part: &RefOr<Schema>, known: &BTreeMap<String, RefOr<Schema>>) {
    match named(part).map_or(Some(part), |name| known.get(name)) {
        Some(RefOr::T(Schema::Object(part))) => {
            whole.required.extend_from_slice(&part.required);
            whole.properties.extend(part.properties.clone());
        }
        Some(RefOr::T(Schema::AllOf(parts))) => parts.items.iter().for_each(|part| take_fields(whole, part, known)),
        Some(RefOr::T(Schema::OneOf(parts))) => {
            let required = whole.required.clone();
            parts.items.iter().for_each(|part| take_fields(whole, part, known));
            whole.required = required;
        }
        _ => {}
    }
}

/// The description of the API as JSON, ending with a line end; the same bytes for the same code.
#[must_use]
pub fn openapi_json() -> String {
    let mut text = Api::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Described as `/v1/…`; commands ask for them at the desk, which has the routes of administration alone.
    const ALSO_AT_THE_DESK: [&str; 3] = ["/tfp", "/retention", "/experiments/{id}/results"];

    /// The paths that the sources give to the router, each with its methods; those of administration as they stand in its part.
    fn routed() -> Vec<(&'static str, Vec<&'static str>)> {
        let sources = [include_str!("app.rs"), include_str!("routes/billing/mod.rs")];
        let lines = sources.iter().flat_map(|source| source.lines());
        let route = |line: &'static str| {
            let (path, handlers) = line.trim().strip_prefix(".route(\"")?.split_once('"')?;
            let methods = ["get", "post", "put", "delete"].into_iter();
            Some((path, methods.filter(|method| handlers.contains(&format!("{method}("))).collect()))
        };
        lines.filter_map(route).collect()
    }

    #[test]
    fn every_route_and_body_is_described() {
        let value: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        let routed = routed();
        assert!(routed.len() > 70, "they are found: {routed:?}");
        for (route, methods) in routed.into_iter().filter(|(route, _)| !ALSO_AT_THE_DESK.contains(route)) {
            // A rest of a path is one parameter to its readers; keys are also a kind of records.
            let plain = route.replace("{*", "{");
            let kind = plain.replace("/keys", "/{kind}");
            let whole = [plain.clone(), format!("/admin/v1{plain}"), format!("/admin/v1{kind}")];
            assert!(!methods.is_empty(), "{route} has no methods here");
            for method in methods {
                let described = whole.iter().any(|path| value["paths"][path][method].is_object());
                assert!(described, "{method} {route} is not described");
            }
        }
        for (path, methods) in value["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let answer = &operation["responses"]["200"];
                assert!(answer.is_object() && operation["summary"].is_string(), "{method} {path}");
                let wants_json = method == "post" && !path.starts_with(CLAIM_PATH);
                assert_eq!(operation["responses"]["415"].is_object(), wants_json, "{method} {path}");
            }
        }
        let schemas = &value["components"]["schemas"];
        assert!(schemas["ChatCompletionRequest"]["properties"]["temperature"].is_object());
        assert!(schemas["Usage"]["properties"]["measured"].is_object());
        let chat = &value["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"];
        let invoice = &value["paths"]["/v1/invoices/{id}"]["get"]["responses"]["200"]["content"];
        assert!(invoice["application/json"].is_object() && invoice["application/pdf"].is_object(), "{invoice}");
        assert_eq!(schemas["CostAmount"]["properties"]["value"]["type"], "number");
        assert_eq!(schemas["InvoiceLine"]["oneOf"].as_array().unwrap().len(), 5);
        assert!(chat["text/event-stream"].is_object() && chat["application/json"].is_object(), "{chat}");
    }

    #[test]
    fn each_answer_has_a_schema() {
        let value: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        let paths = value["paths"].as_object().unwrap().iter().filter(|(path, _)| *path != "/openapi.json");
        let mut answers = 0;
        for (path, operation) in
            paths.flat_map(|(path, methods)| methods.as_object().unwrap().values().map(move |o| (path, o)))
        {
            let answer = &operation["responses"]["200"]["content"]["application/json"]["schema"];
            assert!(
                answer.is_null() || answer["$ref"].is_string(),
                "{path} answers {answer}; give it a type with ToSchema"
            );
            answers += usize::from(answer["$ref"].is_string());
        }
        assert!(answers > 60, "they are found: {answers}");
    }

    /// Makers of clients name their calls by them.
    #[test]
    fn each_operation_has_an_id_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for (path, item) in Api::openapi().paths.paths {
            for operation in [item.get, item.post, item.put, item.delete].into_iter().flatten() {
                let id = operation.operation_id.unwrap();
                assert!(seen.insert(id.clone()), "{path}: another operation is called {id}");
            }
        }
        assert!(seen.len() > 70, "they are found: {seen:?}");
    }

    #[test]
    fn the_committed_description_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap();
        let same = committed == openapi_json();
        assert!(same, "docs/openapi.json is old: cargo run -p server --example openapi > docs/openapi.json");
    }
}
