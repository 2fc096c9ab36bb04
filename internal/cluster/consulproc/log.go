package consulproc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

const (
	tailEvery = time.Second
	// tailMost is the size at which a log that was read to its end begins anew.
	tailMost = 4 << 20
)

// tail carries the process's log over into ours. The process appends to a file, so that it needs nobody who reads.
type tail struct {
	path   string
	log    *slog.Logger
	offset int64
	said   map[string]*repeats // what was said of late
}

// repeats are those of one message.
type repeats struct {
	at    time.Time // when it was logged last
	times int       // that it was said since
}

const (
	// sayAgain is for how long a message that counts is not logged again: a Consul that can't reach another one says so each second.
	sayAgain = 10 * time.Minute
	maxSaid  = 256
)

// newTail begins at the file's end: what is there was said to an earlier agent, or was said to nobody and is old.
func newTail(path string, log *slog.Logger) *tail {
	t := &tail{path: path, log: log, said: map[string]*repeats{}}
	if info, err := os.Stat(path); err == nil {
		t.offset = info.Size()
	}
	return t
}

func (t *tail) run(ctx context.Context) {
	ticker := time.NewTicker(tailEvery)
	defer ticker.Stop()
	for {
		t.read(ctx)
		select {
		case <-ctx.Done():
			t.read(context.WithoutCancel(ctx))
			return
		case <-ticker.C:
		}
	}
}

// read passes on what was appended in whole lines.
func (t *tail) read(ctx context.Context) {
	info, err := os.Stat(t.path)
	if err != nil || info.Size() == t.offset {
		return
	}
	if info.Size() < t.offset {
		t.offset = 0
	}
	crashpoint.Hit("files of Consul: open the log to read it")
	f, err := os.OpenFile(t.path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.Seek(t.offset, io.SeekStart); err != nil {
		return
	}
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break // an unfinished line is read again
		}
		t.offset += int64(len(line))
		t.say(ctx, bytes.TrimSpace(line))
	}
	if now, err := f.Stat(); err == nil && now.Size() == t.offset && t.offset > tailMost && f.Truncate(0) == nil {
		t.offset = 0
	}
}

// say writes one line of Consul's. Its levels count less here: what is an error or a warning to it (a server that
// is away, an election) is what the cluster is made to live with, and errors of its HTTP requests are told to us, who asked.
func (t *tail) say(ctx context.Context, line []byte) {
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		if len(line) > 0 { // before it reads its configuration, and when that is wrong, it speaks plain text
			t.once(ctx, plainLevel(line), "", string(line), nil)
		}
		return
	}
	level := slog.LevelDebug
	if fields["@level"] == "error" && fields["@module"] != "agent.http" {
		level = slog.LevelInfo
	}
	message, _ := fields["@message"].(string)
	module, _ := fields["@module"].(string)
	var attrs []slog.Attr
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		switch name {
		case "@level", "@message", "@timestamp":
		case "@module":
			attrs = append(attrs, slog.Any("module", value))
		default:
			attrs = append(attrs, slog.Any(name, value))
		}
	}
	t.once(ctx, level, module, message, attrs)
}

// once logs a message as it is, or as one for debugging if it was logged of late.
func (t *tail) once(ctx context.Context, level slog.Level, module, message string, attrs []slog.Attr) {
	if level > slog.LevelDebug {
		key, now := module+" "+message, time.Now()
		r := t.said[key]
		switch {
		case r == nil:
			if len(t.said) >= maxSaid {
				clear(t.said) // some are logged once more
			}
			t.said[key] = &repeats{at: now}
		case now.Sub(r.at) < sayAgain:
			r.times++
			level = slog.LevelDebug
		default:
			attrs = append(attrs, slog.Int("times", r.times+1))
			*r = repeats{at: now}
		}
	}
	t.log.LogAttrs(ctx, level, "Consul: "+message, attrs...)
}

// plainLevel is the level of a line that has none: its banner, or an error that ends it.
func plainLevel(line []byte) slog.Level {
	if bytes.Contains(bytes.ToLower(line), []byte("error")) || bytes.HasPrefix(line, []byte("panic")) {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
