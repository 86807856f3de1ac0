//! Where frames of something are addressed to: to nothing in particular where a dialect's frames have
//! no address, else to each of what the client named them by.

use std::sync::LazyLock;

use bytes::Bytes;

/// The only address of frames that have none.
static WHOLE: [Bytes; 1] = [Bytes::new()];

/// See the module; at first, to nowhere. A list only where there is something to list: most sockets
/// speak a dialect without addresses, and they have many of these.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses(Option<Box<[Bytes]>>);

impl Addresses {
    /// Of frames that have none.
    pub(super) const WHOLE: Self = Self(None);

    /// Of frames that have none, if they go anywhere.
    pub(super) fn unaddressed(anywhere: bool) -> &'static Self {
        static NOWHERE: LazyLock<Addresses> = LazyLock::new(Addresses::default);
        if anywhere { &Self::WHOLE } else { &NOWHERE }
    }

    pub(super) fn is_nowhere(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// One frame goes to each of them; an empty one is none.
    pub(super) fn as_slice(&self) -> &[Bytes] {
        self.0.as_deref().unwrap_or(&WHOLE)
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self(Some(Box::default()))
    }
}

impl<'a> FromIterator<Option<&'a Bytes>> for Addresses {
    /// Each once; `None` if frames have none.
    fn from_iter<I: IntoIterator<Item = Option<&'a Bytes>>>(all: I) -> Self {
        let mut each: Vec<Bytes> = Vec::new();
        for address in all {
            let address = address.cloned().unwrap_or_default();
            if !each.contains(&address) {
                each.push(address);
            }
        }
        if each == WHOLE {
            return Self::WHOLE;
        }
        Self(Some(each.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_addressed_to_nothing_in_particular_is_no_list() {
        assert!(Addresses::default().is_nowhere());
        assert_eq!(Addresses::from_iter([]), Addresses::default());
        assert_eq!(Addresses::from_iter([None, None]), Addresses::WHOLE);
        assert_eq!(Addresses::WHOLE.as_slice(), [Bytes::new()]);
        let (one, other) = (Bytes::from_static(b"1"), Bytes::from_static(b"2"));
        let both = Addresses::from_iter([Some(&one), Some(&other), Some(&one)]);
        assert_eq!(both.as_slice(), [one, other]);
        assert_eq!(size_of::<Addresses>(), 16);
    }
}
