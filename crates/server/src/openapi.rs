//! The description of the API, generated from the code.

use protocol::GenerationOptions;
use utoipa::openapi::schema::{AdditionalProperties, Object, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr};
use utoipa::{Modify, OpenApi, ToSchema};

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
    modifiers(&Keys, &SharedFields),
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

/// Fields that schemas take over from others, written out in each of them: a reader sees one list. Both kinds of completions
/// take no other field.
struct SharedFields;

impl Modify for SharedFields {
    fn modify(&self, openapi: &mut Document) {
        let schemas = &mut openapi.components.get_or_insert_default().schemas;
        let options = GenerationOptions::name();
        let known = schemas.clone();
        schemas.remove(options.as_ref());
        for schema in schemas.values_mut() {
            let RefOr::T(Schema::AllOf(parts)) = schema else { continue };
            let mut whole = Object::new();
            whole.description = parts.description.take();
            for part in &parts.items {
                let part = match part {
                    RefOr::Ref(part) => {
                        let name = part.ref_location.rsplit('/').next().unwrap_or_default();
                        if name == options {
                            whole.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
                        }
                        known.get(name)
                    }
                    part => Some(part),
                };
                let Some(RefOr::T(Schema::Object(part))) = part else { continue };
                whole.required.extend_from_slice(&part.required);
                whole.properties.extend(part.properties.clone());
            }
            *schema = RefOr::T(Schema::Object(whole));
        }
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

    #[test]
    fn every_route_and_body_is_described() {
        let value: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        for path in [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/next-token",
            "/v1/models",
            "/v1/models/{id}",
            "/tokenize",
            "/detokenize",
            "/v1/usage",
            "/v1/standing",
            "/v1/invoices",
            "/v1/invoices/{id}",
            "/v1/organization/usage/completions",
            "/v1/organization/costs",
            "/v1/feedback",
            "/v1/outcomes",
            "/v1/tfp",
            "/v1/retention",
            "/v1/experiments",
            "/v1/experiments/{id}",
            "/v1/experiments/{id}/assignments",
            "/admin/v1/organisations/{id}/invoices",
            "/admin/v1/organisations/{id}/invoices/{label}",
            "/health",
            "/ready",
            "/metrics",
            "/openapi.json",
        ] {
            assert!(value["paths"][path].is_object(), "{path}");
        }
        for (path, methods) in [
            ("/admin/v1/{kind}", &["get", "put"][..]),
            ("/admin/v1/{kind}/{id}", &["get"]),
            ("/admin/v1/keys", &["post"]),
            ("/admin/v1/keys/{id}", &["delete"]),
            ("/admin/v1/keys/{id}/rotate", &["post"]),
            ("/admin/v1/organisations/{id}/standing", &["get"]),
            ("/admin/v1/payments", &["post"]),
            ("/admin/v1/credits", &["post"]),
            ("/admin/v1/experiments/{id}/stop", &["post"]),
            ("/admin/v1/audit", &["get"]),
            ("/admin/v1/report", &["get"]),
            ("/admin/v1/statement", &["get"]),
            ("/v1/costs", &["get"]),
            ("/v1/costs/{id}", &["get"]),
            ("/v1/margins", &["get"]),
            ("/v1/session", &["get", "post", "delete"]),
            ("/admin/v1/requests", &["get"]),
            ("/admin/v1/requests/{id}", &["get"]),
            ("/admin/v1/requests/{id}/content", &["delete"]),
            ("/admin/v1/projects/{id}/content", &["delete"]),
            ("/admin/v1/history", &["get"]),
            ("/admin/v1/live", &["get"]),
            ("/admin/v1/live/snapshot", &["get"]),
            ("/admin/v1/calibration", &["get"]),
            ("/admin/v1/tfp-index", &["get"]),
            ("/admin/v1/comparison", &["get"]),
            ("/admin/v1/plan", &["post"]),
            ("/admin/v1/settings", &["get"]),
            ("/admin/v1/ledger/entries", &["get"]),
            ("/admin/v1/ledger/accounts", &["get"]),
            ("/admin/v1/verify", &["get"]),
            ("/admin/v1/export", &["get"]),
            ("/admin/v1/backup", &["post"]),
            ("/admin/v1/models", &["get"]),
            ("/admin/v1/models/{name}/load", &["post"]),
            ("/admin/v1/models/{name}/unload", &["post"]),
            ("/admin/v1/models/{name}/pin", &["put"]),
            ("/admin/v1/models/{name}/adapters", &["get", "post"]),
            ("/admin/v1/models/{name}/adapters/{adapter}", &["delete"]),
            ("/admin/claim/{token}", &["get", "post"]),
        ] {
            for method in methods {
                let operation = &value["paths"][path][method];
                assert!(
                    operation["responses"]["200"].is_object() && operation["summary"].is_string(),
                    "{method} {path}"
                );
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
    fn the_committed_description_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap();
        let same = committed == openapi_json();
        assert!(same, "docs/openapi.json is old: cargo run -p server --example openapi > docs/openapi.json");
    }
}
