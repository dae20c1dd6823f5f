//! Objects are put and deleted, all or none, and must fit together afterwards.

use std::{collections::BTreeSet, sync::Arc};

use crate::model::{
    AnyObject, Applied, Kind, Mesh, Name, ObjectKey, ObjectOutcome, Outcome, Refusal, RefusalCode,
    State,
    command::{DeleteObject, PutObject, WriteObjects},
    limits::{OBJECT_BYTES, OBJECTS_PER_WRITE},
    relations,
    rollout::Rollout,
    vip::RangeFull,
};

/// What a write would make of the mesh, checked but for virtual addresses.
pub(super) struct Written {
    pub(super) mesh: Mesh,
    pub(super) outcomes: Vec<ObjectOutcome>,
    /// What is not as it was.
    pub(super) touched: Vec<ObjectKey>,
}

impl Written {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &ObjectKey> {
        self.touched.iter().filter(move |key| key.kind() == kind)
    }

    pub(super) fn services(&self) -> Vec<Name> {
        self.of(Kind::Service).map(|key| key.name.clone()).collect()
    }

    pub(super) fn has_settings(&self) -> bool {
        self.of(Kind::MeshSettings).next().is_some()
    }
}

impl State {
    pub(super) fn write_objects(
        &mut self,
        command: &WriteObjects,
        author: &Arc<str>,
    ) -> Result<Applied, Refusal> {
        self.check_sources(command)?;
        let written = self.written(command, author)?;
        self.check_rollout(&written)?;
        let (services, ranges_changed) = (written.services(), written.has_settings());
        let mut mesh = written.mesh;
        if !written.touched.is_empty() {
            let mut pool = self.vip_pool.clone();
            let settled = pool.settle(&mut mesh, &services, ranges_changed, self.log_index);
            settled.map_err(range_full)?;
            self.vip_pool = pool;
            self.mesh = mesh;
            self.touch_mesh();
        }
        Ok(Applied {
            objects: written.outcomes,
            ..Applied::default()
        })
    }

    /// The mesh with a write in it.
    pub(super) fn written(
        &self,
        command: &WriteObjects,
        author: &Arc<str>,
    ) -> Result<Written, Refusal> {
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
        let Write { mesh, outcomes, .. } = write;
        let touched: Vec<ObjectKey> = changed(&outcomes)
            .map(|outcome| outcome.key.clone())
            .collect();
        fit(&self.mesh, &mesh, &touched)?;
        Ok(Written {
            mesh,
            outcomes,
            touched,
        })
    }

    /// What is being rolled out is not written beside it, and still fits afterwards.
    fn check_rollout(&self, written: &Written) -> Result<(), Refusal> {
        let Some(rollout) = self.mesh.rollout() else {
            return Ok(());
        };
        let (id, touched) = (rollout.id(), &written.touched);
        if let Some(key) = rollout.keys().find(|key| touched.contains(key)) {
            let message = format!("{key} is part of the rollout {id}; finish or abort that first");
            return Err(Refusal::new(RefusalCode::Conflict, message));
        }
        let mut with = Rollout::clone(rollout);
        with.rebase(&written.mesh);
        let fits = fit(rollout.mesh(), with.mesh(), touched);
        fits.map_err(|refusal| Refusal {
            message: format!(
                "the objects do not fit to the rollout {id}; nothing was written: finish or abort it first"
            ),
            ..refusal
        })
    }
}

/// No virtual address is left.
pub(super) fn range_full(full: RangeFull) -> Refusal {
    let message = format!(
        "MeshSettings {} has no free address left for all services; widen it, or wait until released addresses have rested",
        full.0
    );
    Refusal::new(RefusalCode::Exhausted, message)
}

/// Whether what was touched fits to the rest.
fn fit(older: &Mesh, newer: &Mesh, touched: &[ObjectKey]) -> Result<(), Refusal> {
    let problems = relations::check(older, newer, touched);
    if problems.is_empty() {
        return Ok(());
    }
    let message = "the objects do not fit together; nothing was written".to_owned();
    Err(Refusal {
        problems,
        ..Refusal::new(RefusalCode::Relations, message)
    })
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
