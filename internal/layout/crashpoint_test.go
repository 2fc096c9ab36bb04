package layout_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// harmless are the functions that write, but nothing that a crash in the middle could leave half done.
var harmless = map[string]string{
	"plugin/listen.go Listen":                       "a socket's directory, made again at each start",
	"plugin/listen.go removeLeftover":               "a socket that nobody listens at, removed again at each start",
	"ovsctl/openflow/frames.go Listen":              "a setting of the connection, which ends with it",
	"ovsctl/openflow/frames.go Send":                "a frame",
	"ovsctl/openflow/call.go roundTrip":             "questions",
	"ovsctl/openflow/bundle.go sendBundle":          "a bundle is nothing before its commit",
	"internal/ownovs/choose.go HostHas":             "a managed plugin's start: made again where it is missing",
	"internal/ownovs/ownovs.go":                     "a managed plugin's start: made again where it is missing",
	"internal/clean/remains.go PluginRemains":       "a managed plugin's start: removed again while it is there",
	"internal/statedir/content.go Remove":           "socketplane clean, which can be repeated",
	"ovsctl/vswitch/gen.go":                         "go generate",
	"internal/hostlink/genetlink.go hasFamily":      "a question",
	"internal/membership/tokenfile.go write":        "who founds a cluster and dies in the middle begins anew",
	"internal/doctor/state.go writable":             "a file that the next look overwrites",
	"internal/probe/neighbour.go Neighbours":        "a question",
	"store/bolt/bolt.go mapFile":                    "opens the file; an empty one is one that is not there",
	"store/bolt/bolt.go giveUp":                     "empties a file that could not be made, which a later start does again",
	"internal/dockerwatch/start.go Start":           "asked for again at each start, as long as Docker keeps the error",
	"internal/hostlink/reserved.go":                 "each pass compares it with what is wanted, whatever an earlier process left",
	"internal/dockerwatch/own.go MakeGatewayBridge": "one question to Docker, which makes it or not; each pass compares",
}

// reads are the methods of the outside world's handles that write nothing; whatever else they have counts as a write.
var reads = map[string][]string{
	"handle":  {"LinkByName", "LinkByIndex", "LinkList", "RouteGetWithOptions", "RouteList", "RouteListFiltered", "AddrList", "GenlFamilyGet", "SetSocketTimeout", "Close"},
	"KV":      {"Get", "List", "Keys"},
	"Session": {"Info", "List", "Node"},
	"Raw":     {"Query"},
	"db":      {"View", "Close", "Sync", "Stats", "Path"},
	"file":    {"Close", "Read", "ReadAt", "Stat", "Name"},
	"temp":    {"Close", "Name"},
	"api":     {"Close", "Ping", "Events", "Dialer", "ClientVersion"},
}

// writes are functions that write, by package.
var writes = map[string][]string{
	"os":   {"Chmod", "Chown", "Create", "Link", "Mkdir", "MkdirAll", "OpenFile", "Remove", "RemoveAll", "Rename", "Symlink", "Truncate", "WriteFile"},
	"unix": {"Sendto", "Sendmsg", "Write", "Pwrite"},
}

// isWrite says whether a call changes something outside the process, as far as its form tells.
func isWrite(f file, call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	method := sel.Sel.Name
	switch x := sel.X.(type) {
	case *ast.Ident: // os.Rename(…), or a method of a variable
		if x.Obj == nil && slices.Contains(writes[x.Name], method) {
			return true
		}
		return isMethodWrite(f, x.Name, method, call)
	case *ast.SelectorExpr: // l.handle.LinkAdd(…)
		return isMethodWrite(f, x.Sel.Name, method, call)
	case *ast.CallExpr: // s.client.KV().Acquire(…)
		if inner, ok := x.Fun.(*ast.SelectorExpr); ok {
			return isMethodWrite(f, inner.Sel.Name, method, call)
		}
	}
	return false
}

func isMethodWrite(f file, of, method string, call *ast.CallExpr) bool {
	switch {
	case method == "Transact": // of libovsdb's client
		return f.dir() == "ovsctl"
	case method == "Execute": // of netlink's requests: with a kind of answer it is a dump
		return f.dir() == "internal/hostlink" && isZero(call.Args[len(call.Args)-1])
	case method == "send": // of OpenFlow's connection
		return f.dir() == "ovsctl/openflow"
	case method == "call" && f.dir() == "internal/dockerwatch": // by the HTTP method
		sel, ok := call.Args[1].(*ast.SelectorExpr)
		return !ok || sel.Sel.Name != "MethodGet"
	case of == "l" && method == "ethtool": // it asks, too
		return true
	}
	known, is := reads[of]
	if !is || of == "db" && f.dir() != "store/bolt" || (of == "file" || of == "temp") && f.dir() != "internal/journal" ||
		of == "api" && f.dir() != "internal/dockerwatch" || (of == "KV" || of == "Session" || of == "Raw") && f.dir() != "store/consul" || of == "handle" && f.dir() != "internal/hostlink" {
		return false
	}
	return !slices.Contains(known, method)
}

func isZero(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && lit.Kind == token.INT && lit.Value == "0"
}

// agents says whether a file is part of the agent.
func agents(f file) bool {
	return !f.isTest() && !under(f.dir(), "test") && !under(f.dir(), "internal/testenv") && !under(f.dir(), "internal/crashpoint") &&
		!slices.Contains([]string{"store/storetest", "internal/cli", "internal/setup", "packaging/generate"}, f.dir())
}

// hits are the names in calls of crashpoint.Hit below a node; complaints are of names that no test can list.
func hits(f file, within ast.Node) (names, complaints []string) {
	ast.Inspect(within, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Hit" {
			return true
		}
		if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "crashpoint" {
			return true
		}
		lit, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			complaints = append(complaints, f.at(call)+": the name of a crash point must be a literal, as tests list them")
			return true
		}
		name, _ := strconv.Unquote(lit.Value) // the parser has seen it
		names = append(names, name)
		return true
	})
	return names, complaints
}

// leastWrites is how many writes the check must find in the repository.
const leastWrites = 20

// crashChecks are about writes and the crash points beside them.
var crashChecks = []check{
	{"each write is a crash point", writesAreCrashPoints, []fixture{
		one("no point", "internal/x/x.go", "package x\n\nimport \"os\"\n\nfunc f() { os.Remove(\"x\") }", "internal/x/x.go:5: f writes"),
		one("looks for the wrong things", "internal/x/x.go", "package x", "only 0 writes were found"),
		one("excused in vain", "store/bolt/bolt.go", "package bolt", "store/bolt/bolt.go mapFile (opens the file"),
	}},
	{"crash points have names of their own", crashPointNames, []fixture{
		one("twice", "internal/x/x.go", "package x\n\nfunc f() { crashpoint.Hit(\"a: b\"); crashpoint.Hit(\"a: b\") }", "is also a crash point of"),
		one("says not what", "internal/x/x.go", "package x\n\nfunc f() { crashpoint.Hit(\"a\") }", "does not say what is written to"),
		one("not a literal", "internal/x/x.go", "package x\n\nfunc f(s string) { crashpoint.Hit(s) }", "must be a literal"),
	}},
}

// writesAreCrashPoints: a write that no test kills the agent at is a write that was never seen half done.
func writesAreCrashPoints(files []file) (out []string) {
	found, excused := 0, map[string]bool{}
	for _, f := range files {
		if !agents(f) {
			continue
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			names, _ := hits(f, fn.Body)
			writing := 0
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !isWrite(f, call) {
					return true
				}
				found++
				for _, key := range []string{f.dir(), f.name, f.name + " " + fn.Name.Name} {
					if harmless[key] != "" {
						excused[key] = true
						return true
					}
				}
				if writing++; writing > len(names) {
					out = append(out, fmt.Sprintf("%s: %s writes: call crashpoint.Hit before it, and after it where something follows", f.at(call), fn.Name.Name))
				}
				return true
			})
		}
	}
	if found < leastWrites {
		out = append(out, fmt.Sprintf("only %d writes were found: the test looks for the wrong things", found))
	}
	for _, key := range slices.Sorted(maps.Keys(harmless)) {
		if !excused[key] {
			out = append(out, fmt.Sprintf("%s (%s) writes nothing any more: it needs no excuse", key, harmless[key]))
		}
	}
	return out
}

func crashPointNames(files []file) (out []string) {
	seen := map[string]string{}
	for _, f := range files {
		if !agents(f) {
			continue
		}
		names, complaints := hits(f, f.ast)
		out = append(out, complaints...)
		for _, name := range names {
			if seen[name] != "" {
				out = append(out, fmt.Sprintf("%s: %q is also a crash point of %s", f.name, name, seen[name]))
			}
			if !strings.Contains(name, ": ") {
				out = append(out, fmt.Sprintf("%s: crash point %q does not say what is written to", f.name, name))
			}
			seen[name] = f.name
		}
	}
	return out
}
