package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	service    = "_socketplane._tcp.local."
	txtVersion = "v=1"
	// maxText bounds a name in what is sent and taken: a DNS label has 63 bytes at most.
	maxText = 63
	// flush is the bit of a record's class by which its owner replaces what was known of it (RFC 6762, 10.2).
	flush = dnsmessage.Class(1 << 15)
)

// query asks everybody for the service.
func query() ([]byte, error) {
	name, err := dnsmessage.NewName(service)
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}
	return m.Pack()
}

// encode is an announcement as a DNS response. A ttl of 0 takes it back.
func encode(a Announcement, ttl time.Duration) ([]byte, error) {
	var names [3]dnsmessage.Name
	for i, text := range []string{service, a.Host + "." + service, a.Host + ".local."} {
		name, err := dnsmessage.NewName(text)
		if err != nil {
			return nil, fmt.Errorf("announcement of %s: %w", a.Host, err)
		}
		names[i] = name
	}
	seconds := uint32(ttl / time.Second)
	head := func(name dnsmessage.Name, class dnsmessage.Class) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: name, Class: class, TTL: seconds}
	}
	texts := []string{txtVersion, "id=" + a.Host, "name=" + cut(a.Name), "state=" + string(a.State), "addr=" + a.Addr.String()}
	if a.Cluster != "" {
		texts = append(texts, "cluster="+a.Cluster)
	}
	if a.Locked {
		texts = append(texts, "locked=1")
	}
	own := dnsmessage.ClassINET | flush
	m := dnsmessage.Message{
		Header: dnsmessage.Header{Response: true, Authoritative: true},
		Answers: []dnsmessage.Resource{
			{Header: head(names[0], dnsmessage.ClassINET), Body: &dnsmessage.PTRResource{PTR: names[1]}},
			{Header: head(names[1], own), Body: &dnsmessage.SRVResource{Port: a.Port, Target: names[2]}},
			{Header: head(names[1], own), Body: &dnsmessage.TXTResource{TXT: texts}},
		},
	}
	if a.Addr.Is4() {
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: head(names[2], own), Body: &dnsmessage.AResource{A: a.Addr.As4()}})
	} else {
		m.Additionals = append(m.Additionals, dnsmessage.Resource{Header: head(names[2], own), Body: &dnsmessage.AAAAResource{AAAA: a.Addr.As16()}})
	}
	return m.Pack()
}

// heard is what one message says.
type heard struct {
	asks bool // somebody asks for the service
	peer Announcement
	ttl  time.Duration
	ok   bool // peer is one
}

// decode reads what concerns us. Everything else on the segment is none of our business and no error.
func decode(packet []byte) heard {
	var p dnsmessage.Parser
	header, err := p.Start(packet)
	if err != nil {
		return heard{}
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return heard{}
	}
	if !header.Response {
		for _, q := range questions {
			if strings.EqualFold(q.Name.String(), service) && (q.Type == dnsmessage.TypePTR || q.Type == dnsmessage.TypeALL) {
				return heard{asks: true}
			}
		}
		return heard{}
	}
	answers, err := p.AllAnswers()
	if err != nil {
		return heard{}
	}
	var h heard
	for _, r := range answers {
		if !strings.HasSuffix(strings.ToLower(r.Header.Name.String()), "."+service) {
			continue
		}
		switch body := r.Body.(type) {
		case *dnsmessage.SRVResource:
			h.peer.Port = body.Port
		case *dnsmessage.TXTResource:
			h.ttl = time.Duration(r.Header.TTL) * time.Second
			h.ok = h.peer.texts(body.TXT)
		}
	}
	h.ok = h.ok && h.peer.Port != 0
	return h
}

// texts reads the TXT record and reports whether it makes sense.
func (a *Announcement) texts(lines []string) bool {
	if len(lines) == 0 || lines[0] != txtVersion {
		return false
	}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "id":
			a.Host = value
		case "name":
			a.Name = cut(value)
		case "state":
			a.State = State(value)
		case "cluster":
			a.Cluster = value
		case "locked":
			a.Locked = value == "1"
		case "addr":
			a.Addr, _ = netip.ParseAddr(value) // the zero address is refused below
		}
	}
	known := a.State == Candidate || (a.State == Founding || a.State == Member) && plain(a.Cluster)
	return known && plain(a.Host) && a.Addr.IsValid() && a.Addr.Zone() == "" && !a.Addr.IsUnspecified() && !a.Addr.IsMulticast()
}

// plain says whether a text may be an id: it is compared, logged and shown.
func plain(id string) bool {
	if id == "" || len(id) > maxText {
		return false
	}
	for _, r := range id {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-') {
			return false
		}
	}
	return true
}

// cut makes a name that people read harmless and short.
func cut(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return -1
		}
		return r
	}, name)
	if len(name) > maxText {
		name = strings.ToValidUTF8(name[:maxText], "")
	}
	return name
}
