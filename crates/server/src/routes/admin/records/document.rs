//! Records of the directory as they are shown.

use economics::Plan;
use economics::directory::record::{EndUser, Key, Member, Organisation, Project, Team};
use economics::experiment::Experiment;
use economics::price::PriceSpec;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::schema::{OneOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// Records of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordList {
    /// `list`.
    pub(super) object: &'static str,
    /// The records.
    pub(super) data: Vec<ShownRecord>,
}

/// A record that was created or replaced.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedRecord {
    /// Its version, from 1.
    pub(super) version: u64,
    /// As it is now.
    pub(super) record: ShownRecord,
}

/// A record as it may be shown: without hashes of keys.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct ShownRecord(pub(super) Value);

macro_rules! one_of {
    ($($record:ty),*) => {
        impl PartialSchema for ShownRecord {
            fn schema() -> RefOr<Schema> {
                let one_of = OneOfBuilder::new()
                    .description(Some("A record of the kind that is asked for, without hashes of keys."));
                one_of$(.item(Ref::from_schema_name(<$record>::name())))*.into()
            }
        }

        impl ToSchema for ShownRecord {
            fn name() -> std::borrow::Cow<'static, str> {
                "Record".into()
            }

            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(
                    schemas.push((<$record>::name().into_owned(), <$record>::schema()));
                    <$record>::schemas(schemas);
                )*
            }
        }
    };
}

one_of!(Organisation, Team, Project, Key, EndUser, Member, Plan, PriceSpec, Experiment);
