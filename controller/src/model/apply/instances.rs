//! Registered sidecars: they come, report health, and go.

use std::net::IpAddr;

use crate::model::{
    Applied, Instance, InstanceEntry, Refusal, RefusalCode, State,
    command::{EndInstances, ReportHealth},
    limits::{INSTANCE_ADDRESSES, INSTANCE_LABELS, INSTANCE_PORTS},
    relations::service_account,
};

impl State {
    pub(super) fn register(&mut self, instance: &Instance) -> Result<Applied, Refusal> {
        check_instance(instance)?;
        if let Some(known) = self.mesh.instances.get(&instance.name) {
            if known.instance == *instance {
                return Ok(Applied::default());
            }
            check_takeover(&known.instance, instance)?;
        }
        self.check_account(instance)?;
        self.mesh.put_instance(instance.clone(), self.log_index);
        self.touch_mesh();
        Ok(Applied::default())
    }

    pub(super) fn report_health(&mut self, command: &ReportHealth) -> Applied {
        let mut skipped = 0;
        let mut changed = false;
        for change in &command.changes {
            let entry = self.mesh.instances.get(&change.name);
            let Some(entry) = entry.filter(|entry| reports(&entry.instance, change.generation))
            else {
                skipped += 1;
                continue;
            };
            let mut instance = entry.instance.clone();
            let Some(port) = instance
                .ports
                .iter_mut()
                .find(|port| port.port == change.port)
            else {
                skipped += 1;
                continue;
            };
            if port.health != change.health {
                port.health = change.health;
                changed = true;
                let entry = InstanceEntry {
                    instance,
                    changed_at: self.log_index,
                };
                self.mesh
                    .instances
                    .insert(change.name.clone(), entry.into());
            }
        }
        if changed {
            self.touch_mesh();
        }
        Applied {
            skipped,
            ..Applied::default()
        }
    }

    pub(super) fn end_instances(&mut self, command: &EndInstances) -> Applied {
        let mut skipped = 0;
        for end in &command.ends {
            let entry = self.mesh.instances.get(&end.name);
            if entry.is_some_and(|entry| reports(&entry.instance, end.generation)) {
                self.mesh.take_instance(&end.name);
                self.touch_mesh();
            } else {
                skipped += 1;
            }
        }
        Applied {
            skipped,
            ..Applied::default()
        }
    }

    /// A `Workload` may say which service account its sidecar must have.
    fn check_account(&self, instance: &Instance) -> Result<(), Refusal> {
        let workload = self.mesh.workloads.get(&instance.name);
        let wanted = workload.and_then(|entry| entry.object.spec.service_account.as_deref());
        match (wanted, service_account(&instance.identity)) {
            (Some(wanted), proved) if proved != Some(wanted) => Err(Refusal::new(
                RefusalCode::Conflict,
                format!(
                    "Workload {} has the service account `{wanted}`, and the sidecar proved {}; give it a token for `{wanted}`, or change the Workload",
                    instance.name, instance.identity
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// Whether the process of this generation may say how an instance is. Of a pod only Kubernetes may.
fn reports(instance: &Instance, generation: u64) -> bool {
    instance.source.is_none() && instance.generation == generation
}

/// A name belongs to an identity until it is withdrawn or its lease ends; within it, to the newest process.
fn check_takeover(known: &Instance, new: &Instance) -> Result<(), Refusal> {
    if known.source.is_some() {
        let message = format!(
            "{} is a pod of Kubernetes'; register under another workload name",
            new.name
        );
        return Err(Refusal::new(RefusalCode::Conflict, message));
    }
    if known.identity != new.identity {
        let message = format!(
            "{} is registered by {}; withdraw that one, or register under another workload name",
            new.name, known.identity
        );
        return Err(Refusal::new(RefusalCode::Conflict, message));
    }
    if known.generation > new.generation {
        let message = format!(
            "a newer process has registered as {}; stop this one",
            new.name
        );
        return Err(Refusal::new(RefusalCode::Superseded, message));
    }
    Ok(())
}

pub(super) fn check_instance(instance: &Instance) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(RefusalCode::Invalid, message));
    let name = &instance.name;
    if name.namespace.is_empty() || name.name.is_empty() {
        return invalid("an instance needs a namespace and a name".to_owned());
    }
    if !(1..=INSTANCE_ADDRESSES).contains(&instance.addresses.len()) {
        return invalid(format!(
            "{name} needs 1 to {INSTANCE_ADDRESSES} addresses, not {}",
            instance.addresses.len()
        ));
    }
    if let Some(address) = instance
        .addresses
        .iter()
        .find(|address| address.parse::<IpAddr>().is_err())
    {
        return invalid(format!("{name}: `{address}` is not an IP address"));
    }
    if instance.ports.len() > INSTANCE_PORTS || instance.labels.len() > INSTANCE_LABELS {
        return invalid(format!(
            "{name} may have {INSTANCE_PORTS} ports and {INSTANCE_LABELS} labels at most"
        ));
    }
    let is_port = |port: u32| (1..=u32::from(u16::MAX)).contains(&port);
    if let Some(port) = instance.ports.iter().find(|port| !is_port(port.port)) {
        return invalid(format!(
            "{name}: {} is not a port; ports go from 1 to 65535",
            port.port
        ));
    }
    if instance.mesh_port > u32::from(u16::MAX) {
        return invalid(format!(
            "{name}: {} is not a port; ports go from 1 to 65535",
            instance.mesh_port
        ));
    }
    Ok(())
}
