package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// contentType is what dockerd asks for in its Accept header (moby pkg/plugins/transport, VersionMimetype).
const contentType = "application/vnd.docker.plugins.v1.2+json"

// maxID bounds ids, in bytes. Docker's have 64 and Swarm's 25; ids become parts of keys and of names.
const maxID = 256

// What go-plugins-helpers lacks, or has without the fields of newer Docker.
type (
	activateResponse struct {
		Implements []string
	}
	networkCapabilities struct {
		Scope             string
		ConnectivityScope string
		GwAllocChecker    bool
	}
	ipamCapabilities struct {
		RequiresMACAddress    bool
		RequiresRequestReplay bool
	}
	gwAllocCheckRequest struct {
		Options map[string]any
	}
	gwAllocCheckResponse struct {
		SkipIPv4, SkipIPv6 bool
	}
	// errorResponse has the same text under both keys: the network protocol and Docker's HTTP client read Err, the
	// address protocol reads Error.
	errorResponse struct {
		Err   string
		Error string
	}
	empty struct{}
)

// requestError is an error with a status of its own; every other error is answered with 500.
type requestError struct {
	status int
	err    error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

func statusOf(err error) int {
	if re, ok := errors.AsType[*requestError](err); ok {
		return re.status
	}
	return http.StatusInternalServerError
}

// decode accepts exactly one JSON object. Unknown fields are fine: newer Docker versions add some.
func decode(body []byte, into any) error {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return badRequest("the request has no body: Docker repeats a request without its body after its connection " +
			"to the plugin broke; repeat the docker command")
	case body[0] != '{':
		return badRequest("the request's body is no JSON object")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return badRequest("the request's body can't be read: %w", err)
	}
	return nil
}

// checkID checks an id that Docker made.
func checkID(field, id string) error {
	if err := checkToken(field, id); err != nil {
		return err
	}
	if strings.Contains(id, "/") {
		return badRequest("%s %q contains a slash", field, id)
	}
	return nil
}

// checkToken is checkID for ids that we made ourselves: a PoolID may be a CIDR.
func checkToken(field, id string) error {
	switch {
	case id == "":
		return badRequest("%s is missing", field)
	case len(id) > maxID:
		return badRequest("%s has %d bytes, more than the %d that an id may have", field, len(id), maxID)
	}
	for _, r := range id {
		// Whatever isn't UTF-8 was decoded to RuneError, which would make different ids equal.
		if unicode.IsControl(r) || r == utf8.RuneError {
			return badRequest("%s %q contains a character that no id has", field, id)
		}
	}
	return nil
}

// encode gives the status and the body of an answer.
func encode(answer any, err error) (int, []byte) {
	if err == nil {
		var body []byte
		if body, err = json.Marshal(answer); err == nil {
			return http.StatusOK, append(body, '\n')
		}
		err = fmt.Errorf("the answer can't be written as JSON: %w", err)
	}
	// Two strings always marshal.
	body, _ := json.Marshal(errorResponse{Err: err.Error(), Error: err.Error()})
	return statusOf(err), append(body, '\n')
}
