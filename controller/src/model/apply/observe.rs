//! What was observed in Kubernetes becomes the mesh, and nobody else writes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{
    AnyObject, Applied, Instance, Kind, Name, ObjectKey, Refusal, RefusalCode, State,
    command::{PutObject, WriteObjects},
    limits::OBJECT_BYTES,
    observation::{Observe, ObservedObject, Source, is_observed},
};

use super::instances::check_instance;

impl State {
    pub(super) fn observe(
        &mut self,
        command: &Observe,
        author: &Arc<str>,
    ) -> Result<Applied, Refusal> {
        if command.term < self.observed_term {
            let message = format!(
                "a controller has observed Kubernetes in term {} since; term {} is over",
                self.observed_term, command.term
            );
            return Err(Refusal::new(RefusalCode::Superseded, message));
        }
        let mut next = Observed {
            state: self.clone(),
            author,
            services: BTreeSet::new(),
            changed: false,
            skipped: 0,
        };
        next.state.observed_term = command.term;
        next.take(command);
        let (services, changed, skipped) = (next.services, next.changed, next.skipped);
        let mut state = next.state;
        let services: Vec<Name> = services.into_iter().collect();
        let settled = state
            .vip_pool
            .settle(&mut state.mesh, &services, false, self.log_index);
        settled.map_err(super::objects::range_full)?;
        if changed {
            state.touch_mesh();
        }
        *self = state;
        Ok(Applied {
            skipped,
            ..Applied::default()
        })
    }

    /// What a person writes may not be what Kubernetes says.
    pub(super) fn check_sources(&self, write: &WriteObjects) -> Result<(), Refusal> {
        let puts = write.puts.iter().map(|PutObject { key, .. }| key);
        let mut keys = puts.chain(write.deletes.iter().map(|delete| &delete.key));
        let foreign = keys.find(|key| self.is_foreign(key));
        foreign.map_or(Ok(()), |key| {
            let (kind, Name { namespace, name }) = (key.kind(), &key.name);
            let message = format!(
                "the namespace `{namespace}` belongs to Kubernetes, and so does {kind} `{name}` in it; change it there, with kubectl"
            );
            Err(Refusal::new(RefusalCode::Conflict, message))
        })
    }

    fn is_foreign(&self, key: &ObjectKey) -> bool {
        is_observed(key.kind()) && self.mesh.is_of_kubernetes(&key.name.namespace)
    }
}

/// The state as it grows by one observation.
struct Observed<'a> {
    state: State,
    author: &'a Arc<str>,
    /// Services that came, went or changed.
    services: BTreeSet<Name>,
    changed: bool,
    skipped: u32,
}

impl Observed<'_> {
    fn take(&mut self, command: &Observe) {
        for namespace in &command.namespaces {
            self.claim(namespace);
        }
        for object in &command.objects {
            let taken = self.put(object);
            self.count(taken);
        }
        for key in &command.gone_objects {
            let taken = self.remove(key);
            self.count(taken);
        }
        for pod in &command.pods {
            let taken = self.put_pod(pod);
            self.count(taken);
        }
        for name in &command.gone_pods {
            let taken = self.remove_pod(name);
            self.count(taken);
        }
        for namespace in &command.gone_namespaces {
            self.release(namespace);
        }
    }

    fn count(&mut self, taken: Option<()>) {
        match taken {
            Some(()) => self.changed = true,
            None => self.skipped += 1,
        }
    }

    /// A namespace in which people have written what would be observed stays theirs.
    fn claim(&mut self, namespace: &str) {
        let mesh = &mut self.state.mesh;
        if mesh.is_of_kubernetes(namespace) {
            return;
        }
        let first = Name::new(namespace, "");
        let mut services = mesh.services.range(first..);
        let written = services
            .next()
            .is_some_and(|(name, _)| name.namespace == namespace);
        match written {
            true => self.skipped += 1,
            false => {
                mesh.kubernetes.insert(namespace.to_owned());
                self.changed = true;
            }
        }
    }

    fn release(&mut self, namespace: &str) {
        if self.state.mesh.kubernetes.remove(namespace).is_none() {
            self.skipped += 1;
            return;
        }
        self.changed = true;
        let first = || Name::new(namespace, "");
        let here = |name: &&Name| name.namespace == namespace;
        let services = self.state.mesh.services.range(first()..);
        let services: Vec<Name> = services
            .map(|(name, _)| name)
            .take_while(here)
            .cloned()
            .collect();
        for name in services {
            self.remove(&ObjectKey::new(Kind::Service, name));
        }
        let instances = self.state.mesh.instances.range(first()..);
        let instances = instances.map(|(name, _)| name).take_while(here);
        for name in instances.cloned().collect::<Vec<_>>() {
            self.remove_pod(&name);
        }
    }

    fn put(&mut self, observed: &ObservedObject) -> Option<()> {
        let ObservedObject { key, json, source } = observed;
        self.state.is_foreign(key).then_some(())?;
        if is_older(source, self.state.observed.get(key)) || json.len() > OBJECT_BYTES {
            return None;
        }
        let object = AnyObject::from_json(key.kind(), json).ok()?;
        let metadata = object.metadata();
        let named = Name::new(metadata.namespace.as_str(), metadata.name.as_str());
        (named == key.name).then_some(())?;
        self.state.observed.insert(key.clone(), source.clone());
        let index = self.state.log_index;
        self.state.mesh.put(object, json, index, self.author);
        self.touch(key);
        Some(())
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<()> {
        self.state.observed.remove(key)?;
        self.state.mesh.take(key);
        self.touch(key);
        Some(())
    }

    fn touch(&mut self, key: &ObjectKey) {
        if key.kind() == Kind::Service {
            self.services.insert(key.name.clone());
        }
    }

    /// A host's sidecar that registered under the name first keeps it.
    fn put_pod(&mut self, pod: &Instance) -> Option<()> {
        let source = pod.source.as_ref()?;
        let mesh = &mut self.state.mesh;
        mesh.is_of_kubernetes(&pod.name.namespace).then_some(())?;
        let known = mesh.instances.get(&pod.name);
        if let Some(known) = known {
            let before = known.instance.source.as_ref()?;
            (!is_older(source, Some(before))).then_some(())?;
        }
        check_instance(pod).ok()?;
        mesh.put_instance(pod.clone(), self.state.log_index);
        Some(())
    }

    fn remove_pod(&mut self, name: &Name) -> Option<()> {
        let known = self.state.mesh.instances.get(name)?;
        known.instance.source.as_ref()?;
        self.state.mesh.take_instance(name);
        Some(())
    }
}

/// Whether something newer of the same object is known.
fn is_older(source: &Source, known: Option<&Source>) -> bool {
    known.is_some_and(|known| known.uid == source.uid && known.version > source.version)
}
