package store

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxKey is the largest key in bytes. Keys are part of a URL in Consul; ours
// are below 200.
const MaxKey = 512

// maxBody is Consul's limit for a transaction's JSON in bytes (its setting
// txn_max_req_len), and opOverhead what one operation adds beside key and value.
const (
	maxBody    = 512 << 10
	opOverhead = 192
)

// ValidKey returns nil if key can be stored, else an error that wraps
// ErrInvalid. A key is parts joined by single slashes; a part is not empty and
// not "." or ".."; there are no control characters and no "%", and no space at
// either end. Consul's transactions accept most of these, but then they can't be
// read back: HTTP cleans the path, and Consul 1.22 unescapes and checks it again.
func ValidKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: the key is empty", ErrInvalid)
	}
	if strings.HasSuffix(key, "/") {
		return fmt.Errorf("%w: the key %q ends with a slash", ErrInvalid, key)
	}
	return ValidPrefix(key)
}

// ValidPrefix is like ValidKey for what List and Watch take: "" means
// everything, and the last part may be empty or be cut off anywhere.
func ValidPrefix(prefix string) error {
	if len(prefix) > MaxKey {
		return fmt.Errorf("%w: the key %.32q… has %d bytes, more than %d", ErrInvalid, prefix, len(prefix), MaxKey)
	}
	if !utf8.ValidString(prefix) {
		return fmt.Errorf("%w: the key %q is not UTF-8", ErrInvalid, prefix)
	}
	if strings.Trim(prefix, " ") != prefix {
		return fmt.Errorf("%w: the key %q begins or ends with a space", ErrInvalid, prefix)
	}
	for _, r := range prefix {
		if r == '%' {
			return fmt.Errorf("%w: the key %q has a percent sign", ErrInvalid, prefix)
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return fmt.Errorf("%w: the key %q has a control character", ErrInvalid, prefix)
		}
	}
	for rest, more := prefix, true; more; {
		var part string
		if part, rest, more = strings.Cut(rest, "/"); part == "" && more || part == "." || part == ".." {
			return fmt.Errorf("%w: the key %q has an empty or relative part", ErrInvalid, prefix)
		}
	}
	return nil
}

// ValidOps returns nil if Apply can carry the operations out, else an error
// that wraps ErrInvalid. Every implementation asks it first, so that what one
// store refuses is refused by all.
func ValidOps(ops []Op) error {
	for _, op := range ops {
		if err := ValidKey(op.Key); err != nil {
			return err
		}
		if len(op.Value) > MaxValue {
			return fmt.Errorf("%w: the value of %s has %d bytes, more than %d", ErrInvalid, op.Key, len(op.Value), MaxValue)
		}
		if err := validKind(op); err != nil {
			return err
		}
	}
	count, size := cost(ops)
	if count > MaxOps {
		return fmt.Errorf("%w: %d operations in one transaction, more than %d (OpDelete counts twice)", ErrInvalid, count, MaxOps)
	}
	if size > maxBody {
		return fmt.Errorf("%w: a transaction of about %d bytes encoded, more than %d", ErrInvalid, size, maxBody)
	}
	return nil
}

// validKind returns nil if the operation's kind is known and has the version that it needs.
func validKind(op Op) error {
	switch op.Kind {
	case OpSet, OpCheck, OpPut, OpRemove:
		return nil
	case OpDelete:
		if op.Version == 0 {
			return fmt.Errorf("%w: OpDelete of %s with version 0", ErrInvalid, op.Key)
		}
		return nil
	default:
		return fmt.Errorf("%w: unknown kind of operation %d on %s", ErrInvalid, op.Kind, op.Key)
	}
}
