package operator

import (
	"errors"
	"strings"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/store"
)

// Spoken keeps an error's text and gives it the kind that crosses the admin socket.
func Spoken(err error) error {
	var kind error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound):
		kind = adminapi.ErrNotFound
	case errors.Is(err, store.ErrNameTaken), errors.Is(err, store.ErrOverlap), errors.Is(err, store.ErrHasEndpoints),
		errors.Is(err, store.ErrMismatch), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrInUse), errors.Is(err, store.ErrTaken), errors.Is(err, store.ErrAmbiguous),
		errors.Is(err, store.ErrOlderHosts):
		kind = adminapi.ErrConflict
	case errors.Is(err, store.ErrInvalid):
		kind = adminapi.ErrInvalid
	default:
		return err
	}
	return &kindError{err, kind}
}

type kindError struct{ err, kind error }

func (e *kindError) Error() string {
	text := e.err.Error()
	// "network has containers: network web is used by …": the second half says it all.
	if _, rest, ok := strings.Cut(text, ": "); ok {
		return rest
	}
	return text
}
func (e *kindError) Unwrap() []error { return []error{e.err, e.kind} }
