package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Dump is the whole state of the lab as text that can be compared: what differs from run to run by chance (counters,
// times, random ids of the database) is left out, and everything is sorted. What can't be read is shown as its error.
func (l *Lab) Dump(ctx context.Context) string {
	var b strings.Builder
	for _, h := range l.Hosts {
		h.dump(ctx, &b)
	}
	if l.Consul != nil {
		fmt.Fprintf(&b, "== consul\n")
		keys, err := l.Consul.Keys(ctx, "socketplane/")
		if err != nil {
			fmt.Fprintf(&b, "! %v\n", err)
		}
		for _, key := range slices.Sorted(mapKeys(keys)) {
			fmt.Fprintf(&b, "%s = %s\n", key, keys[key])
		}
	}
	return b.String()
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (h *Host) dump(ctx context.Context, b *strings.Builder) {
	section := func(title string, normalise func(string) []string, argv ...string) {
		fmt.Fprintf(b, "== %s: %s\n", h.Name, title)
		out, err := h.Exec(ctx, argv...)
		if err != nil {
			fmt.Fprintf(b, "! %v\n", err)
			return
		}
		lines := normalise(out)
		slices.Sort(lines)
		for _, line := range lines {
			fmt.Fprintln(b, line)
		}
	}
	section("bridges", ovsRows, "ovs-vsctl", "--format=json", "--columns=name,datapath_type,fail_mode,external_ids,other_config", "list", "Bridge")
	section("interfaces", ovsRows, "ovs-vsctl", "--format=json", "--columns=name,type,ofport,error,options,external_ids", "list", "Interface")
	section("ports of socketplane0", plainLines, "sh", "-c", "ovs-vsctl list-ports socketplane0 2>/dev/null || true")
	section("flows of socketplane0", flowLines, "sh", "-c",
		"ovs-vsctl br-exists socketplane0 || exit 0; ovs-ofctl -OOpenFlow14 --no-stats --names dump-flows socketplane0")
	section("links", linkLines, "ip", "-o", "-d", "link", "show")
	section("addresses", addrLines, "ip", "-o", "addr", "show")
	section("forwarding entries", plainLines, "sh", "-c", "bridge fdb show | grep ' dst ' || true")
	fmt.Fprintf(b, "== %s: docker networks\n", h.Name)
	out, err := h.Docker(ctx, "network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")
	if err != nil {
		fmt.Fprintf(b, "! %v\n", err)
	}
	lines := plainLines(out)
	slices.Sort(lines)
	fmt.Fprintln(b, strings.Join(lines, "\n"))
}

func plainLines(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return strings.TrimSpace(line) == "" })
}

// Device numbers, and MACs and names that the kernel and Docker drew, differ by chance.
var (
	linkIndex = regexp.MustCompile(`^\d+: `)
	linkNoise = regexp.MustCompile(`(@if\d+|link-netns(id)? \S+|bridge_id \S+|designated_root \S+|_timer +\S+|gc_timer +\S+|link/ether \S+ brd \S+|numtxqueues.*|ifindex \d+)`)
	addrNoise = regexp.MustCompile(`(valid_lft \S+|preferred_lft \S+|\\)`)
	drawnName = regexp.MustCompile(`\bveth[0-9a-f]{7}\b`)
	flowNoise = regexp.MustCompile(`^ (cookie=0x[0-9a-f]+, )?`)
	spaces    = regexp.MustCompile(`\s+`)
)

func linkLines(text string) []string {
	return clean(text, func(s string) string {
		return drawnName.ReplaceAllString(linkNoise.ReplaceAllString(linkIndex.ReplaceAllString(s, ""), ""), "vethX")
	})
}

func addrLines(text string) []string {
	lines := clean(text, func(s string) string {
		return addrNoise.ReplaceAllString(linkIndex.ReplaceAllString(s, ""), "")
	})
	// Link-local addresses come from MACs that the kernel drew.
	return slices.DeleteFunc(lines, func(s string) bool { return strings.Contains(s, " fe80::") })
}

// flowLines leaves the cookie out: it has the generation in it, which differs after a restart.
func flowLines(text string) []string {
	lines := clean(text, func(s string) string { return flowNoise.ReplaceAllString(s, "") })
	return slices.DeleteFunc(lines, func(s string) bool { return strings.HasPrefix(s, "NXST_FLOW") || strings.HasPrefix(s, "OFPST_FLOW") })
}

func clean(text string, each func(string) string) []string {
	lines := plainLines(text)
	for i, line := range lines {
		lines[i] = strings.TrimSpace(spaces.ReplaceAllString(each(line), " "))
	}
	return lines
}

// ovsRows makes a line of name=value for each row of ovs-vsctl's JSON.
func ovsRows(text string) []string {
	var table struct {
		Headings []string
		Data     [][]any
	}
	if err := json.Unmarshal([]byte(text), &table); err != nil {
		return []string{"! " + err.Error()}
	}
	var lines []string
	for _, row := range table.Data {
		var cells []string
		for i, value := range row {
			cells = append(cells, table.Headings[i]+"="+ovsValue(value))
		}
		lines = append(lines, strings.Join(cells, " "))
	}
	return lines
}

// ovsValue shows a value of the database's JSON (RFC 7047, 5.1): sets and maps are sorted.
func ovsValue(value any) string {
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return fmt.Sprint(value)
	}
	items, ok := pair[1].([]any)
	if !ok {
		return fmt.Sprint(pair[1])
	}
	var texts []string
	for _, item := range items {
		if kv, ok := item.([]any); ok && pair[0] == "map" && len(kv) == 2 {
			texts = append(texts, fmt.Sprintf("%v=%v", kv[0], kv[1]))
		} else {
			texts = append(texts, ovsValue(item))
		}
	}
	slices.Sort(texts)
	return "{" + strings.Join(texts, " ") + "}"
}
