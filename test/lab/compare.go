package lab

import (
	"fmt"
	"regexp"
	"strings"
)

// A revision is drawn at random with each change of what it guards, as the value of a shard is, and a host's record and session with each start of
// its agent; the kernel says of some devices UP or UNKNOWN as it likes; the source of probes' answers carries the host's id, which
// a host with an empty state directory chooses again: none of them is something that is left.
var byChance = regexp.MustCompile(`(?m)pools-revision = .*$|/alive = .*$|/alive/\w+ = .*$|/shards/\S+ = .*$|"revision":"\w+"|"subnets":\[.*?\]|"started":"[^"]*"| state (UP|DOWN|UNKNOWN)|set_field:02:53:50:[0-9a-f:]{8}->eth_src`)

// What hosts told of how they use their addresses is some seconds old; which host is the cluster's janitor is chance, as are the shards of hosts, which follow from their ids.
var someTimeAgo = regexp.MustCompile(`(?m)^.*/(use/|janitor = |hostheads/|hostshards/).*\n`)

// A host's binding has a fence once the answer to one of its requests did not come in time.
var fence = regexp.MustCompile(`,"fence":"[^"]*"`)

// Which addresses of a network that is there a host keeps as spares, or lets rest, is chance; that a network's blocks go
// with it is not.
var claimRecord = regexp.MustCompile(`(?m)(/blocks/[^/]+)/.*$`)

// Lasting is a dump without what differs by chance between two moments at rest.
func Lasting(dump string) string {
	var b strings.Builder
	last := ""
	for line := range strings.Lines(claimRecord.ReplaceAllString(byChance.ReplaceAllString(fence.ReplaceAllString(someTimeAgo.ReplaceAllString(dump, ""), ""), "…"), "$1")) {
		if line != last || !strings.Contains(line, "/blocks/") {
			b.WriteString(line)
		}
		last = line
	}
	return b.String()
}

// Compare shows the lines that only one of two dumps has, under the title of their section.
func Compare(before, now string) string {
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
