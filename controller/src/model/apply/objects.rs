//! Objects are put and deleted, all or none, and must fit together afterwards.

use std::{collections::BTreeSet, sync::Arc};

use crate::model::{
    AnyObject, Applied, Kind, Mesh, Name, ObjectKey, ObjectOutcome, Outcome, Refusal, RefusalCode,
    State,
    command::{DeleteObject, PutObject, WriteObjects},
    limits::{OBJECT_BYTES, OBJECTS_PER_WRITE},
    relations,
};

impl State {
    pub(super) fn write_objects(
        &mut self,
        command: &WriteObjects,
        author: &Arc<str>,
    ) -> Result<Applied, Refusal> {
        check_sizes(command)?;
        let mut write = Write {
            mesh: self.mesh.clone(),
            index: self.log_index,
            author,
            outcomes: Vec::new(),
        };
        for put in &command.puts {
            write.put(put)?;
        }
        for delete in &command.deletes {
            write.delete(delete)?;
        }
        let Write {
            mut mesh, outcomes, ..
        } = write;
        let touched: Vec<ObjectKey> = changed(&outcomes)
            .map(|outcome| outcome.key.clone())
            .collect();
        let problems = relations::check(&self.mesh, &mesh, &touched);
        if !problems.is_empty() {
            let message = "the objects do not fit together; nothing was written".to_owned();
            return Err(Refusal {
                problems,
                ..Refusal::new(RefusalCode::Relations, message)
            });
        }
        if !touched.is_empty() {
            let mut pool = self.vip_pool.clone();
            let of = |kind: Kind| touched.iter().filter(move |key| key.kind() == kind);
            let services: Vec<Name> = of(Kind::Service).map(|key| key.name.clone()).collect();
            let ranges_changed = of(Kind::MeshSettings).next().is_some();
            pool.settle(&mut mesh, &services, ranges_changed, self.log_index).map_err(|full| {
                let message = format!(
                    "MeshSettings {} has no free address left for all services; widen it, or wait until released addresses have rested",
                    full.0
                );
                Refusal::new(RefusalCode::Exhausted, message)
            })?;
            self.vip_pool = pool;
            self.mesh = mesh;
            self.touch_mesh();
        }
        Ok(Applied {
            objects: outcomes,
            ..Applied::default()
        })
    }
}

struct Write<'a> {
    mesh: Mesh,
    index: u64,
    author: &'a Arc<str>,
    outcomes: Vec<ObjectOutcome>,
}

impl Write<'_> {
    fn put(&mut self, put: &PutObject) -> Result<(), Refusal> {
        let stored = self.mesh.stored(&put.key);
        check_expected(
            &put.key,
            put.expected,
            stored.map(|stored| stored.changed_at),
        )?;
        if stored.is_some_and(|stored| **stored.json == *put.json) {
            self.outcome(&put.key, Outcome::Unchanged);
            return Ok(());
        }
        let object = AnyObject::from_json(put.key.kind(), &put.json).map_err(|error| {
            Refusal::new(
                RefusalCode::Invalid,
                format!("{}: {}", put.key, with_source(&error)),
            )
        })?;
        let metadata = object.metadata();
        if Name::new(metadata.namespace.as_str(), metadata.name.as_str()) != put.key.name {
            let message = format!(
                "{}: its text names {}/{}",
                put.key, metadata.namespace, metadata.name
            );
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        let existed = self.mesh.put(object, &put.json, self.index, self.author);
        self.outcome(
            &put.key,
            if existed {
                Outcome::Configured
            } else {
                Outcome::Created
            },
        );
        Ok(())
    }

    fn delete(&mut self, delete: &DeleteObject) -> Result<(), Refusal> {
        let Some(stored) = self.mesh.stored(&delete.key) else {
            let message = format!("there is no {}", delete.key);
            return Err(Refusal::new(RefusalCode::NotFound, message));
        };
        check_expected(&delete.key, delete.expected, Some(stored.changed_at))?;
        self.mesh.take(&delete.key);
        self.outcome(&delete.key, Outcome::Deleted);
        Ok(())
    }

    fn outcome(&mut self, key: &ObjectKey, outcome: Outcome) {
        self.outcomes.push(ObjectOutcome {
            key: key.clone(),
            outcome: outcome as i32,
        });
    }
}

fn changed(outcomes: &[ObjectOutcome]) -> impl Iterator<Item = &ObjectOutcome> {
    outcomes
        .iter()
        .filter(|outcome| outcome.outcome() != Outcome::Unchanged)
}

fn check_sizes(command: &WriteObjects) -> Result<(), Refusal> {
    let count = command.puts.len() + command.deletes.len();
    if count > OBJECTS_PER_WRITE {
        let message = format!(
            "one write may touch {OBJECTS_PER_WRITE} objects, not {count}; write them in parts"
        );
        return Err(Refusal::new(RefusalCode::Exhausted, message));
    }
    if let Some(put) = command
        .puts
        .iter()
        .find(|put| put.json.len() > OBJECT_BYTES)
    {
        let message = format!(
            "{} has {} bytes; an object may have {OBJECT_BYTES}. Split it",
            put.key,
            put.json.len()
        );
        return Err(Refusal::new(RefusalCode::Exhausted, message));
    }
    let mut seen = BTreeSet::new();
    let keys = command
        .puts
        .iter()
        .map(|put| &put.key)
        .chain(command.deletes.iter().map(|delete| &delete.key));
    for key in keys {
        if !seen.insert(key) {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                format!("{key} stands twice in one write; leave one out"),
            ));
        }
    }
    Ok(())
}

fn check_expected(
    key: &ObjectKey,
    expected: Option<u64>,
    actual: Option<u64>,
) -> Result<(), Refusal> {
    match expected {
        None => Ok(()),
        Some(expected) if actual.unwrap_or(0) == expected => Ok(()),
        Some(expected) => {
            let message = match actual {
                Some(actual) => {
                    format!("{key} was changed at index {actual}, not {expected}; read it again")
                }
                None => format!("{key} does not exist, and was expected as of index {expected}"),
            };
            Err(Refusal::new(RefusalCode::Conflict, message))
        }
    }
}

/// Only for errors whose cause is one level down.
fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
