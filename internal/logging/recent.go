package logging

import (
	"bytes"
	"io"
	"log/slog"
	"sync"

	"github.com/socketplane/socketplane/internal/config"
)

// recentBytes bounds what is kept of the log: some thousands of lines.
const recentBytes = 512 << 10

// Recent keeps the last lines that were logged. It is safe for concurrent use.
type Recent struct {
	mu    sync.Mutex
	lines [][]byte // the oldest first
	size  int
}

// Recording is New whose last lines are kept, too.
func Recording(w io.Writer, level slog.Level, format config.LogFormat) (*slog.Logger, *Recent) {
	r := &Recent{}
	return New(io.MultiWriter(r, w), level, format), r
}

// Write keeps one record, and forgets the oldest when there are too many. It implements io.Writer and never fails.
func (r *Recent) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := bytes.Clone(line[:min(len(line), recentBytes)])
	r.lines = append(r.lines, kept)
	r.size += len(kept)
	for r.size > recentBytes {
		r.size -= len(r.lines[0])
		r.lines[0] = nil // append gives the ring a new array now and then, but not at once
		r.lines = r.lines[1:]
	}
	return len(line), nil
}

// Bytes gives the lines that are kept.
func (r *Recent) Bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Join(r.lines, nil)
}
