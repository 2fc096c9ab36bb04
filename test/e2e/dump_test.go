package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// A revision is drawn anew with each change of what it guards, and a host's record and session with each start of
// its agent; the kernel says of some devices UP or UNKNOWN as it likes: none of them is something that is left.
var noise = regexp.MustCompile(`(?m)pools-revision = .*$|/alive = .*$|"revision":"\w+"|"subnets":\[.*?\]|"started":"[^"]*"| state (UP|DOWN|UNKNOWN)`)

// What hosts told of how they use their addresses is some seconds old.
var use = regexp.MustCompile(`(?m)^.*/use/.*\n`)

// Which addresses of a network that is there a host keeps as spares, or lets rest, is chance; that a network's blocks go
// with it is not.
var claims = regexp.MustCompile(`(?m)(/blocks/[^/]+)/.*$`)

// view is the lab's dump without what differs by chance.
func (w *world) view(ctx context.Context) string {
	var b strings.Builder
	last := ""
	for line := range strings.Lines(claims.ReplaceAllString(noise.ReplaceAllString(use.ReplaceAllString(w.Dump(ctx), ""), "…"), "$1")) {
		if line != last || !strings.Contains(line, "/blocks/") {
			b.WriteString(line)
		}
		last = line
	}
	return b.String()
}

// settled gives a dump that did not change for a moment: what is released in the background is gone.
func (w *world) settled(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := w.view(ctx)
	err := testenv.Poll(ctx, time.Second, func() bool {
		now := w.view(ctx)
		same := now == last
		last = now
		return same
	})
	if err != nil {
		return "", fmt.Errorf("the lab's state does not come to rest: %w", err)
	}
	return last, nil
}

// sameAs waits until the lab is as it was, for what is finished in the background.
func (w *world) sameAs(ctx context.Context, before string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var different string
	err := testenv.Poll(ctx, 200*time.Millisecond, func() bool {
		now := w.view(ctx)
		if ctx.Err() != nil && different != "" {
			return false
		}
		different = diff(before, now)
		return different == ""
	})
	if err != nil {
		return fmt.Errorf("the lab is not as it was before (-) but (+):\n%s", different)
	}
	return nil
}

// diff shows the lines that only one of two dumps has, under the title of their section.
func diff(before, now string) string {
	was, is := sections(before), sections(now)
	var b strings.Builder
	for _, title := range append(titles(before), titles(now)...) {
		var lines []string
		for line, n := range was[title] {
			if is[title][line] < n {
				lines = append(lines, "- "+line)
			}
		}
		for line, n := range is[title] {
			if was[title][line] < n {
				lines = append(lines, "+ "+line)
			}
		}
		if len(lines) > 0 {
			fmt.Fprintf(&b, "%s\n%s\n", title, strings.Join(lines, "\n"))
		}
		delete(was, title)
		delete(is, title)
	}
	return b.String()
}

func titles(dump string) []string {
	var all []string
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "== ") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// sections counts each section's lines.
func sections(dump string) map[string]map[string]int {
	all := map[string]map[string]int{}
	title := ""
	for line := range strings.Lines(dump) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "== ") {
			title = line
		}
		if all[title] == nil {
			all[title] = map[string]int{}
		}
		all[title][line]++
	}
	return all
}
