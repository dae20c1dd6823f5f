//! Join tokens: made, used once, taken back, forgotten.

use std::sync::Arc;

use crate::model::{
    Applied, Refusal, RefusalCode, State, Token, TokenPurpose,
    command::{RevokeToken, UseToken},
    limits::{EXPIRIES_PER_ENTRY, TOKENS},
};

impl State {
    pub(super) fn create_token(&mut self, token: &Token, author: &str) -> Result<Applied, Refusal> {
        if self.tokens.contains_key(&token.id) {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!("there is a token {} already", token.id),
            ));
        }
        if self.tokens.len() >= TOKENS {
            let message = format!(
                "there are {TOKENS} tokens already; revoke some, or wait until they expire"
            );
            return Err(Refusal::new(RefusalCode::Exhausted, message));
        }
        let whole = !token.id.is_empty() && token.secret_sha256.len() == 32;
        let grants = match token.purpose() {
            TokenPurpose::Workload => !token.spiffe_id.is_empty(),
            TokenPurpose::Controller => token.spiffe_id.is_empty(),
            TokenPurpose::Unspecified => false,
        };
        if !whole || !grants || token.expires_at <= self.time_seconds() {
            let message = "a token needs an id, a secret's SHA-256, a purpose with what that grants, and an end in the future";
            return Err(Refusal::new(RefusalCode::Invalid, message));
        }
        let token = Token {
            used_at: 0,
            used_by: String::new(),
            author: author.to_owned(),
            ..token.clone()
        };
        self.tokens_by_end
            .insert((token.forgotten_at(), token.id.clone()));
        self.tokens.insert(token.id.clone(), Arc::new(token));
        Ok(Applied::default())
    }

    pub(super) fn use_token_once(&mut self, command: &UseToken) -> Result<Applied, Refusal> {
        self.use_token(&command.id, TokenPurpose::Controller, &command.used_by)?;
        Ok(Applied::default())
    }

    /// Uses a token up and gives back what it was.
    pub(super) fn use_token(
        &mut self,
        id: &str,
        purpose: TokenPurpose,
        used_by: &str,
    ) -> Result<Arc<Token>, Refusal> {
        let known = self
            .tokens
            .get(id)
            .filter(|token| token.purpose() == purpose);
        let Some(token) = known.cloned() else {
            let message = format!(
                "there is no such token {id}; it was revoked, or belongs to another cluster. Make a new one with `maille token create`"
            );
            return Err(Refusal::new(RefusalCode::NotFound, message));
        };
        if token.used_at != 0 {
            let message = format!(
                "token {id} was used already, by {}; a token is good once. Make a new one with `maille token create`",
                token.used_by
            );
            return Err(Refusal::new(RefusalCode::TokenUsed, message));
        }
        if token.expires_at <= self.time_seconds() {
            let message =
                format!("token {id} has expired; make a new one with `maille token create`");
            return Err(Refusal::new(RefusalCode::TokenExpired, message));
        }
        // A clock that stands at 0 must not make a used token look unused.
        let used_at = self.time_seconds().max(1);
        let used = Token {
            used_at,
            used_by: used_by.to_owned(),
            ..Token::clone(&token)
        };
        self.tokens.insert(id.to_owned(), Arc::new(used));
        Ok(token)
    }

    pub(super) fn revoke_token(&mut self, command: &RevokeToken) -> Result<Applied, Refusal> {
        let Some(token) = self.tokens.remove(&command.id) else {
            let message = format!(
                "there is no token {}; `maille token list` shows those that are there",
                command.id
            );
            return Err(Refusal::new(RefusalCode::NotFound, message));
        };
        self.tokens_by_end
            .remove(&(token.forgotten_at(), token.id.clone()));
        Ok(Applied::default())
    }

    pub(super) fn expire_tokens(&mut self, now: i64) {
        for _ in 0..EXPIRIES_PER_ENTRY {
            match self.tokens_by_end.get_min().cloned() {
                Some((end, id)) if end < now => {
                    self.tokens_by_end.remove(&(end, id.clone()));
                    self.tokens.remove(&id);
                }
                _ => return,
            }
        }
    }
}
