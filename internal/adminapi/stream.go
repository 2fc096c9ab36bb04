package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A long list is written as it is found, and read as it comes: {"schema": 1, "NAME": [item, …]}. What went wrong after the first item stands behind
// the list as "error", and the list is not whole.

// maxList is the largest list that the client reads, in bytes: a million endpoints.
const maxList = 1 << 30

// listTimeout bounds a list. What comes of one comes from the beginning, so that a long list does not look like an agent that is stuck.
const listTimeout = 20 * time.Second

// flushEach is after how many bytes of a list the client gets what there is.
const flushEach = 64 << 10

// list answers a list by what found gives to its function, item by item.
func list[T any](w http.ResponseWriter, name string, found func(func(T) error) error) {
	listWith(w, name, "", func(each func(T) error) (any, error) { return nil, found(each) })
}

// listWith is list with what found returns behind the list, under the name beside.
func listWith[T any](w http.ResponseWriter, name, beside string, found func(func(T) error) (any, error)) {
	l := lister{w: w, head: fmt.Sprintf(`{"schema":%d,%q:[`, Schema, name)}
	more, err := found(func(item T) error {
		text, err := json.Marshal(item)
		if err != nil {
			return fmt.Errorf("an item of %s can't be written as JSON: %w", name, err)
		}
		return l.write(text)
	})
	var text []byte
	if err == nil && beside != "" {
		if text, err = json.Marshal(more); err == nil {
			text = fmt.Appendf(nil, ",%q:%s", beside, text)
		}
	}
	l.end(text, err)
}

// lister writes a list; nothing is written before the first item, so that an error can still be an answer of its own.
type lister struct {
	w       http.ResponseWriter
	head    string
	items   int
	pending int // bytes since the last flush
}

func (l *lister) write(item []byte) error {
	before := ","
	if l.items == 0 {
		l.w.Header().Set("Content-Type", "application/json")
		l.w.WriteHeader(http.StatusOK)
		before = l.head
	}
	l.items++
	n, err := l.w.Write(append([]byte(before), item...))
	if l.pending += n; l.pending >= flushEach {
		l.pending = 0
		c := http.NewResponseController(l.w)
		_ = c.Flush()                                        // a writer that can't sends it at the end
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) // for the next piece: a client that reads is given all
	}
	return err
}

// end ends the answer, with more fields. What can't be written any more has no reader.
func (l *lister) end(more []byte, err error) {
	switch {
	case err != nil && l.items == 0:
		finish(l.w, err, nil)
	case err != nil:
		text, _ := json.Marshal(err.Error()) // a string always can be
		_, _ = fmt.Fprintf(l.w, "],\"error\":%s}\n", text)
	case l.items == 0:
		l.w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(l.w, "%s]%s}\n", l.head, more)
	default:
		_, _ = fmt.Fprintf(l.w, "]%s}\n", more)
	}
}

// readList reads what list writes, and gives each item to its function. Of other fields those are read that more has a place for.
func readList[T any](r io.Reader, name string, each func(T) error, more map[string]any) error {
	d := json.NewDecoder(r)
	if err := expect(d, '{'); err != nil {
		return err
	}
	var said string
	there := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		switch key {
		case name:
			there = true
			err = readItems(d, each)
		case "error":
			err = d.Decode(&said)
		default:
			field, _ := key.(string)
			into, wanted := more[field]
			if !wanted {
				into = &json.RawMessage{}
			}
			err = d.Decode(into)
		}
		if err != nil {
			return err
		}
	}
	switch err := expect(d, '}'); {
	case err != nil:
		return err
	case said != "":
		return &brokenList{said}
	case !there:
		return fmt.Errorf("there is no list %q in it", name)
	}
	return nil
}

// brokenList says why an agent could not give all of a list.
type brokenList struct{ text string }

func (e *brokenList) Error() string { return "the agent answered: " + e.text }

func readItems[T any](d *json.Decoder, each func(T) error) error {
	if err := expect(d, '['); err != nil {
		return err
	}
	for d.More() {
		var item T
		if err := d.Decode(&item); err != nil {
			return err
		}
		if err := each(item); err != nil {
			return err
		}
	}
	return expect(d, ']')
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && got != want {
		err = fmt.Errorf("%v stands where %v should", got, want)
	}
	return err
}
