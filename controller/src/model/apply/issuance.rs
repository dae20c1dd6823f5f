//! Certificates go on the record, and the tokens that paid for them are used up, in one step.

use prost::Message;

use crate::model::{
    Applied, IssuanceRecord, Refusal, RefusalCode, State, TokenPurpose, command::Issue,
};

impl State {
    /// All or none: a certificate that is not on the record must not be handed out.
    pub(super) fn issue(&mut self, command: &Issue) -> Result<Applied, Refusal> {
        let mut next = self.clone();
        let mut first_record = 0;
        for certificate in &command.certificates {
            let record = IssuanceRecord::decode(certificate.record.clone()).map_err(|error| {
                Refusal::new(
                    RefusalCode::Invalid,
                    format!("the issuance record cannot be read: {error}"),
                )
            })?;
            if !certificate.token.is_empty() {
                let token =
                    next.use_token(&certificate.token, TokenPurpose::Workload, &record.serial)?;
                if token.spiffe_id != record.spiffe_id {
                    let message = format!(
                        "token {} grants {}, not {}",
                        token.id, token.spiffe_id, record.spiffe_id
                    );
                    return Err(Refusal::new(RefusalCode::Invalid, message));
                }
            }
            let number = next.issuance.append(record);
            if first_record == 0 {
                first_record = number;
            }
        }
        *self = next;
        Ok(Applied {
            first_record,
            ..Applied::default()
        })
    }
}
