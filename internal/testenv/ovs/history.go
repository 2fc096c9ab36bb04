package ovs

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// Lines of ovs-ofctl monitor, watch: (Open vSwitch's lib/ofp-print.c). Some fields between table and match say nothing of where a flow applies.
var (
	monitorTime  = regexp.MustCompile(`^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+): (\S+)`)
	monitorEvent = regexp.MustCompile(`^ event=([A-Z]+) (?:reason=\S+ )?table=(\d+) (.*?)(?: ?actions=(.*))?$`)
	notMatch     = regexp.MustCompile(`(cookie|idle_timeout|hard_timeout|importance)=\w+ ?`)
	monitorPort  = regexp.MustCompile(`OFPT_PORT_STATUS .*?: (ADD|DEL|MOD): (.*)$`)
)

// history is what a flow monitor told.
type history struct {
	flows map[Flow]int // how many there are of each at the end
	gaps  []string
	since int
	need  map[Flow]bool
	first bool   // what is being read answers the question for all flows: each is told once
	when  string // the moment that is being read
	port  string // the one whose state follows
}

// readHistory reads a monitor's output. Gaps are those of needed flows, and of ports, behind the byte since.
func readHistory(text []byte, since int, needed map[Flow]bool) (*history, error) {
	h := &history{flows: map[Flow]int{}, since: since, need: needed, when: "at the start"}
	for at := 0; at < len(text); {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			break // ovs-ofctl is writing it
		}
		if err := h.line(string(text[at:at+end]), at >= since); err != nil {
			return nil, err
		}
		at += end + 1
	}
	return h, nil
}

func (h *history) line(line string, counts bool) error {
	if m := monitorTime.FindStringSubmatch(line); m != nil {
		h.when, h.port = m[1], ""
	}
	if _, id, is := strings.Cut(line, "NXST_FLOW_MONITOR reply (xid="); is {
		h.first = !strings.HasPrefix(id, "0x0)")
	}
	if m := monitorPort.FindStringSubmatch(line); m != nil && counts {
		h.port = m[2]
		if m[1] == "DEL" {
			h.gap("port " + m[2] + " went")
		}
		return nil
	}
	if h.port != "" && strings.Contains(line, "state:") && strings.Contains(line, "LINK_DOWN") {
		h.gap("the link of port " + h.port + " went down")
		return nil
	}
	if !strings.HasPrefix(line, " event=") {
		return nil
	}
	m := monitorEvent.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("the flow monitor says %q: this test does not know how to read that", line)
	}
	flow := Flow{Table: m[2], Match: strings.TrimSpace(notMatch.ReplaceAllString(m[3], "")), Actions: cmp.Or(m[4], "drop")} // no actions: it drops
	switch m[1] {
	case "ADDED", "MODIFIED":
		h.put(flow, counts)
	case "DELETED":
		h.flows[flow]--
		h.missing(flow, counts, "was deleted")
	default:
		return fmt.Errorf("the flow monitor says %q: this test does not know that event", line)
	}
	return nil
}

// put notes a flow that was added, or that replaced the one with its match.
func (h *history) put(flow Flow, counts bool) {
	if h.first {
		h.flows[flow]++
		return
	}
	if h.flows[flow] > 0 {
		return // the same under another cookie
	}
	for other := range h.flows {
		if other.Table == flow.Table && other.Match == flow.Match {
			h.flows[other] = 0
			h.missing(other, counts, "was replaced by actions="+flow.Actions)
		}
	}
	h.flows[flow] = 1
}

func (h *history) missing(flow Flow, counts bool, how string) {
	if h.flows[flow] <= 0 {
		delete(h.flows, flow)
	}
	if counts && h.need[flow] {
		h.gap(fmt.Sprintf("flow %s %s", flow, how))
	}
}

func (h *history) gap(text string) { h.gaps = append(h.gaps, h.when+": "+text) }
