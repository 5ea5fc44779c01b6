package probes

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/hiveproof/hiveproof/reports"
)

var webTasks = []string{"task0", "task1"}

// webDoors are the built-in balancers of two hosts, each with and without TLS.
func webDoors() []Door {
	var all []Door
	for i, h := range hosts[:2] {
		addr := netip.AddrFrom4([4]byte{192, 168, 56, byte(11 + i)})
		all = append(all, Door{Name: h + " http", Host: h, Addr: netip.AddrPortFrom(addr, 80)},
			Door{Name: h + " https", Host: h, Addr: netip.AddrPortFrom(addr, 443), TLS: true})
	}
	return all
}

// visitsOf makes two sessions of each client, n visits each through the doors in
// turn; pick says which container serves the visit. Each container counts, in its
// memory, the visits of a session that it served.
func visitsOf(n int, pick func(session, visit int) int) []Visit {
	var all []Visit
	doors := webDoors()
	for s := range 2 * len(clients) {
		c := clients[s/2]
		memory := map[int]int{}
		for i := range n {
			k, d := pick(s, i), doors[i%len(doors)]
			memory[k]++
			proto := "http"
			if d.TLS {
				proto = "https"
			}
			all = append(all, Visit{
				Client: c, Session: fmt.Sprintf("%s-%d", c.Name, s%2+1), Door: d, Path: "/", Start: time.Unix(int64(100*s+i), 0), Outcome: Answered, Status: 200,
				Answer: &whoami.Answer{Task: webTasks[k], Node: hosts[k], Session: fmt.Sprint("id", s), Visits: memory[k], Source: netip.MustParseAddrPort("192.168.56.20:4000"),
					Header: map[string][]string{"X-Forwarded-For": {c.Addr.String()}, "X-Forwarded-Proto": {proto}}},
			})
		}
	}
	return all
}

func spreadVisits() []Visit { return visitsOf(12, func(s, i int) int { return (s + i) % 2 }) }
func stuckVisits() []Visit  { return visitsOf(12, func(s, _ int) int { return s % 2 }) }

func withVisits(all []Visit, edit func(i int, v *Visit)) []Visit {
	for i := range all {
		edit(i, &all[i])
	}
	return all
}

// visitEnds has one visit end otherwise.
func visitEnds(all []Visit, at int, o Outcome) []Visit {
	all[at].Outcome, all[at].Answer = o, nil
	return all
}

// sessionTests are those that show nothing, whichever way sessions should go.
func sessionTests(make func() []Visit, judge func([]Visit, []string) Judgement) []verdictTest {
	edit := func(change func(i int, v *Visit)) Judgement { return judge(withVisits(make(), change), webTasks) }
	return []verdictTest{
		{"nothing", judge(nil, webTasks), reports.Invalid, "nobody visited"},
		{"one task", judge(make(), webTasks[:1]), reports.Invalid, "1 task(s) run"},
		{"the same task twice", judge(make(), []string{"task0", "task0"}), reports.Invalid, "1 task(s) run"},
		{"no task is known", judge(make(), nil), reports.Invalid, "0 task(s) run"},
		{"one session", judge(make()[:12], webTasks), reports.Invalid, "1 session(s) were served, 2 are needed"},
		{"short sessions", judge(visitsOf(5, func(s, i int) int { return s % 2 }), append([]string{}, webTasks...)), reports.Invalid, "5 answered visits, 6 are needed"},
		{"a task that does not run", edit(func(i int, v *Visit) {
			if i == 3 {
				v.Answer.Task = "other"
			}
		}), reports.Invalid, "task other answered"},
		{"one visit aborted", judge(visitEnds(make(), 71, Aborted), webTasks), reports.Invalid, "1 of 72 visits were not answered"},
		{"one visit timed out", judge(visitEnds(make(), 71, TimedOut), webTasks), reports.Invalid, "outside-b through hive1 https: timeout"},
		{"none answered", edit(func(_ int, v *Visit) { v.Outcome, v.Answer = Refused, nil }), reports.Invalid, "0 session(s) were served"},
		{"the server is not the agent", edit(func(_ int, v *Visit) { v.Answer = nil }), reports.Invalid, "needs the agent's answers"},
		{"the agent counts no sessions", edit(func(_ int, v *Visit) { v.Answer.Session, v.Answer.Visits = "", 0 }), reports.Invalid, "does not count the visits of a session"},
	}
}

func TestNotSticky(t *testing.T) {
	judge := func(v []Visit) Judgement { return NotSticky(v, webTasks) }
	shuffled := spreadVisits()
	slices.Reverse(shuffled)
	check(t, append([]verdictTest{
		{"spread", judge(spreadVisits()), reports.Pass, "each of 6 sessions was served by several of 2 containers: 66 of 72 visits"},
		{"in any order", judge(shuffled), reports.Pass, "66 of 72 visits"},
		{"one visit elsewhere", judge(visitsOf(6, func(_, i int) int { return map[bool]int{true: 1}[i == 5] })), reports.Pass, "6 of 36 visits"},
		{"sticky", judge(stuckVisits()), reports.Fail, "session outside-a outside-a-1 stayed with one container for all its 12 visits, although 2 run"},
		{"one session is sticky", judge(visitsOf(8, func(s, i int) int {
			if s == 4 {
				return 1
			}
			return i % 2
		})), reports.Fail, "session outside-b outside-b-1"},
		{"a session stays, another was cut short", judge(visitEnds(stuckVisits(), 71, Aborted)), reports.Fail, "stayed with one container"},
		{"memory is shared", judge(withVisits(spreadVisits(), func(i int, v *Visit) { v.Answer.Visits = i%12 + 1 })), reports.Invalid, "they share it"},
		{"visitors without cookies", judge(withVisits(spreadVisits(), func(i int, v *Visit) {
			v.Answer.Session, v.Answer.Visits = fmt.Sprint("new", i), 1
		})), reports.Invalid, "was given a new one"},
	}, sessionTests(spreadVisits, NotSticky)...))
	if lost := judge(spreadVisits()).Measurements["visits_without_memory"]; lost != 66 {
		t.Errorf("%v visits without memory", lost)
	}
}

func TestSticky(t *testing.T) {
	judge := func(v []Visit) Judgement { return Sticky(v, webTasks) }
	counts := func(at, count int) []Visit {
		return withVisits(stuckVisits(), func(i int, v *Visit) {
			if i == at {
				v.Answer.Visits = count
			}
		})
	}
	timedOut := withVisits(stuckVisits(), func(i int, v *Visit) {
		if i == 4 {
			v.Outcome, v.Answer = TimedOut, nil
		}
	})
	check(t, append([]verdictTest{
		{"sticky", judge(stuckVisits()), reports.Pass, "each of 6 sessions was served by one container, over 72 visits"},
		{"spread", judge(spreadVisits()), reports.Fail, "went from task task0 on hive0 (through hive0 http) to task task1 on hive1 (through hive0 https)"},
		{"one visit elsewhere", judge(visitsOf(12, func(s, i int) int {
			if s == 3 && i == 7 {
				return 0
			}
			return s % 2
		})), reports.Fail, "session outside-a outside-a-2 went from task task1"},
		{"the memory is lost", judge(withVisits(stuckVisits(), func(i int, v *Visit) {
			if i%12 >= 6 {
				v.Answer.Visits -= 6
			}
		})), reports.Fail, "counted request 1 after 6"},
		{"the count stands still", judge(counts(3, 3)), reports.Fail, "counted request 3 after 3"},
		{"counted what was never asked", judge(counts(11, 14)), reports.Invalid, "counted request 14 after 11"},
		{"counted a visit whose answer was lost", judge(timedOut), reports.Invalid, "1 of 72 visits were not answered"},
		{"known before the first visit", judge(withVisits(stuckVisits(), func(_ int, v *Visit) { v.Answer.Visits += 4 })), reports.Invalid, "began with request 5"},
		{"all in one container", judge(visitsOf(12, func(_, _ int) int { return 0 })), reports.Invalid, "all 6 sessions went to one container"},
	}, sessionTests(stuckVisits, Sticky)...))
	if n := len(judge(spreadVisits()).Samples); n != 2 {
		t.Errorf("%d visits contradict, want the two between which the session moved", n)
	}
}

func TestStickyAnyDoor(t *testing.T) {
	judge := func(v []Visit, d []Door) Judgement { return StickyAnyDoor(v, d, webTasks) }
	third := Door{Name: "hive2 http", Host: "hive2"}
	check(t, []verdictTest{
		{"through both", judge(stuckVisits(), webDoors()), reports.Pass, "whichever of the balancers on hive0, hive1"},
		{"each balancer has its own mind", judge(visitsOf(12, func(_, i int) int { return i / 2 % 2 }), webDoors()), reports.Fail, "(through hive0 https) to task task1 on hive1 (through hive1 http)"},
		{"a balancer was left out", judge(stuckVisits(), append(webDoors(), third)), reports.Invalid, "came through the balancer on hive2 0 time(s), 2 are needed"},
		{"a session used one door", judge(withVisits(stuckVisits(), func(i int, v *Visit) {
			if i >= 24 && i < 36 {
				v.Door = webDoors()[0]
			}
		}), webDoors()), reports.Invalid, "session outside-a outside-a-1 came through the balancer on hive1 0 time(s)"},
		{"one balancer", judge(stuckVisits(), webDoors()[:2]), reports.Invalid, "there is no other door"},
		{"no doors", judge(stuckVisits(), nil), reports.Invalid, "there is no other door"},
		{"nothing", judge(nil, webDoors()), reports.Invalid, "nobody visited"},
	})
}

// balancerTests are visits that say nothing of what a balancer passes on.
func balancerTests(judge func([]Visit) Judgement) []verdictTest {
	return []verdictTest{
		{"nothing", judge(nil), reports.Invalid, "nobody visited"},
		{"one visit aborted", judge(visitEnds(stuckVisits(), 2, Aborted)), reports.Invalid, "1 of 72 visits could not be made"},
		{"the probe failed", judge(visitEnds(stuckVisits(), 2, Failed)), reports.Invalid, "could not be made"},
		{"too few visits", judge(stuckVisits()[:8]), reports.Invalid, "2 answered visit(s) of segment through hive0 http, 3 are needed"},
		{"a client did not use a door", judge(withVisits(stuckVisits(), func(i int, v *Visit) {
			if v.Client.Name == "segment" && v.Door.Name == "hive1 https" {
				v.Door = webDoors()[0]
			}
		})), reports.Invalid, "0 answered visit(s) of segment through hive1 https"},
		{"a door refuses", judge(withVisits(stuckVisits(), func(_ int, v *Visit) {
			if v.Door.TLS {
				v.Outcome, v.Answer = Refused, nil
			}
		})), reports.Invalid, "through hive0 https"},
		{"the server is not the agent", judge(withVisits(stuckVisits(), func(_ int, v *Visit) { v.Answer = nil })), reports.Invalid, "needs the agent's answers"},
		{"a client's address is not known", judge(withVisits(stuckVisits(), func(_ int, v *Visit) { v.Client.Addr = netip.Addr{} })), reports.Invalid,
			"the address of client segment is not known"},
	}
}

func TestForwardedFor(t *testing.T) {
	header := func(of func(v *Visit) []string) Judgement {
		return ForwardedFor(withVisits(stuckVisits(), func(_ int, v *Visit) { v.Answer.Header["X-Forwarded-For"] = of(v) }))
	}
	check(t, append([]verdictTest{
		{"forwarded", ForwardedFor(stuckVisits()), reports.Pass, "in all 72 answered visits"},
		{"after a forged one", header(func(v *Visit) []string { return []string{"203.0.113.66, " + v.Client.Addr.String()} }), reports.Pass, ""},
		{"after a forged header of its own", header(func(v *Visit) []string { return []string{"203.0.113.66", v.Client.Addr.String()} }), reports.Pass, ""},
		{"an IPv4 address written as IPv6", header(func(v *Visit) []string { return []string{"::ffff:" + v.Client.Addr.String()} }), reports.Pass, ""},
		{"only the balancer's", header(func(*Visit) []string { return []string{"192.168.56.20"} }), reports.Fail, `segment 192.168.56.50 through hive0 http: "192.168.56.20"`},
		{"the balancer's after the client's", header(func(v *Visit) []string { return []string{v.Client.Addr.String() + ", 192.168.56.20"} }), reports.Fail, "in 72 of 72"},
		{"the forged one last", header(func(v *Visit) []string { return []string{v.Client.Addr.String(), "203.0.113.66"} }), reports.Fail, ""},
		{"no header", header(func(*Visit) []string { return nil }), reports.Fail, "in 72 of 72"},
		{"an empty header", header(func(*Visit) []string { return []string{""} }), reports.Fail, ""},
		{"no headers at all", ForwardedFor(withVisits(stuckVisits(), func(_ int, v *Visit) { v.Answer.Header = nil })), reports.Fail, ""},
		{"no address", header(func(*Visit) []string { return []string{"unknown"} }), reports.Fail, `"unknown"`},
		{"one door forgets it", ForwardedFor(withVisits(stuckVisits(), func(_ int, v *Visit) {
			if v.Door.Name == "hive1 https" {
				delete(v.Answer.Header, "X-Forwarded-For")
			}
		})), reports.Fail, "in 18 of 72"},
		{"the protocol is not judged", ForwardedFor(withVisits(stuckVisits(), func(_ int, v *Visit) { delete(v.Answer.Header, "X-Forwarded-Proto") })), reports.Pass, ""},
	}, balancerTests(ForwardedFor)...))
	protos := ForwardedFor(stuckVisits()).Measurements["forwarded_proto"].(map[string]int)
	if protos["hive0 https https"] != 18 || protos["hive0 http http"] != 18 {
		t.Errorf("protocols passed on: %v", protos)
	}
}

func TestSourceIsLB(t *testing.T) {
	edge := Labelled{netip.MustParseAddr("192.168.56.20"), "address of the edge host"}
	other := Labelled{ingress["hive0"], "ingress address of hive0"}
	judge := func(v []Visit) Judgement { return SourceIsLB(v, []Labelled{edge, other}, "the guide says otherwise") }
	seen := func(a func(v *Visit) netip.Addr, from int) Judgement {
		return judge(withVisits(stuckVisits(), func(i int, v *Visit) {
			if i >= from {
				v.Answer.Source = netip.AddrPortFrom(a(v), 1)
			}
		}))
	}
	own := func(v *Visit) netip.Addr { return v.Client.Addr }
	check(t, append([]verdictTest{
		{"the balancer's", judge(stuckVisits()), reports.Pass, "address of the edge host 192.168.56.20 (72); the guide says otherwise"},
		{"two of the balancer's", seen(func(*Visit) netip.Addr { return other.Addr }, 60), reports.Pass, "192.168.56.20 (60), ingress address of hive0 10.0.0.2 (12)"},
		{"the client's own", seen(own, 71), reports.Fail, "in 1 of 72 answered visits"},
		{"the client's own, though expected", SourceIsLB(withVisits(stuckVisits(), func(_ int, v *Visit) {
			v.Answer.Source = netip.AddrPortFrom(v.Client.Addr, 1)
		}), []Labelled{{clients[1].Addr, "a"}, {clients[0].Addr, "b"}, {clients[2].Addr, "c"}}, ""), reports.Fail, "in 72 of 72"},
		{"a stranger's", seen(func(*Visit) netip.Addr { return netip.MustParseAddr("10.9.9.9") }, 0), reports.Fail, "was seen as 10.9.9.9"},
		{"the container does not say", judge(withVisits(stuckVisits(), func(_ int, v *Visit) { v.Answer.Source = netip.AddrPort{} })), reports.Invalid, "does not say from which address"},
		{"nothing is expected", SourceIsLB(stuckVisits(), nil, ""), reports.Invalid, "not known which addresses"},
	}, balancerTests(judge)...))
}

// reload is a change that both balancers serve, by the same tasks.
func reload() Reload {
	r := Reload{Service: "proxy", TasksBefore: []string{"p0", "p1"}, TasksAfter: []string{"p1", "p0"}, Marker: "new", Certificate: "2b"}
	for _, d := range webDoors() {
		v := Visit{Client: clients[0], Door: d, Outcome: Answered, Status: 200, Header: map[string][]string{ConfigHeader: {"old"}}}
		w := v
		w.Header = map[string][]string{ConfigHeader: {"new"}}
		if d.TLS {
			v.Certificate, w.Certificate = "1a", "2b"
		}
		r.Before, r.After = append(r.Before, v), append(r.After, w)
	}
	return r
}

func TestReloadInPlace(t *testing.T) {
	edit := func(change func(r *Reload)) Judgement {
		r := reload()
		change(&r)
		return ReloadInPlace(r)
	}
	check(t, []verdictTest{
		{"in place", ReloadInPlace(reload()), reports.Pass, "through all 4 doors the new configuration and certificate were served, by the same 2 tasks"},
		{"tasks are sets", edit(func(r *Reload) { r.TasksAfter = []string{"p0", "p1", "p0"} }), reports.Pass, "the same 2 tasks"},
		{"no marker before", edit(func(r *Reload) { r.Before[0].Header = nil }), reports.Pass, ""},
		{"no door has TLS", edit(func(r *Reload) {
			plain := func(v Visit) bool { return v.Door.TLS }
			r.Before, r.After = slices.DeleteFunc(r.Before, plain), slices.DeleteFunc(r.After, plain)
		}), reports.Pass, "the certificate was not put to the test"},
		{"one door has the old configuration", edit(func(r *Reload) { r.After[2].Header = r.Before[2].Header }), reports.Fail, "hive1 http still serves the old configuration"},
		{"one door has the old certificate", edit(func(r *Reload) { r.After[3].Certificate = "1a" }), reports.Fail, "hive1 https still shows the old certificate (1a)"},
		{"a door has gone", edit(func(r *Reload) { r.After[1].Outcome = Refused }), reports.Fail, "after the change hive0 https does not answer: refused"},
		{"a task was restarted", edit(func(r *Reload) { r.TasksAfter = []string{"p0", "p2"} }), reports.Fail, "were p0, p1 and are p0, p2"},
		{"a task is missing", edit(func(r *Reload) { r.TasksAfter = r.TasksAfter[:1] }), reports.Fail, "the service was restarted"},
		{"the new configuration before", edit(func(r *Reload) { r.Before[0].Header = r.After[0].Header }), reports.Invalid, "hive0 http served the new configuration or certificate before it was made"},
		{"the new certificate before", edit(func(r *Reload) { r.Before[1].Certificate = "2b" }), reports.Invalid, "before it was made"},
		{"not asked before", edit(func(r *Reload) { r.Before = nil }), reports.Invalid, "nothing was seen before"},
		{"a door silent before", edit(func(r *Reload) { r.Before[2].Outcome = TimedOut }), reports.Invalid, "hive1 http did not answer before the change"},
		{"not asked after", edit(func(r *Reload) { r.After = nil }), reports.Invalid, "hive0 http was not asked after"},
		{"a door not asked after", edit(func(r *Reload) { r.After = r.After[:3] }), reports.Invalid, "hive1 https was not asked after"},
		{"aborted before", edit(func(r *Reload) { r.Before[0].Outcome = Aborted }), reports.Invalid, "could not be made"},
		{"aborted after", edit(func(r *Reload) { r.After[0].Outcome = Aborted }), reports.Invalid, "could not be made"},
		{"no marker is known", edit(func(r *Reload) { r.Marker = "" }), reports.Invalid, ""},
		{"no certificate is known", edit(func(r *Reload) { r.Certificate = "" }), reports.Invalid, "which certificate is new is not known"},
		{"tasks were not listed before", edit(func(r *Reload) { r.TasksBefore = nil }), reports.Invalid, "nothing was seen before"},
		{"tasks were not listed after", edit(func(r *Reload) { r.TasksAfter = nil }), reports.Invalid, "no task was seen to run after the change"},
		{"nothing", ReloadInPlace(Reload{}), reports.Invalid, "nothing was seen before"},
	})
}
