package probes

import (
	"fmt"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/hiveproof/hiveproof/reports"
)

var t0 = time.Unix(1000, 0)

func after(d time.Duration) time.Time { return t0.Add(d) }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestOutage(t *testing.T) {
	at := func(times ...int) (all []Exchange) {
		for _, n := range times {
			all = append(all, Exchange{Start: after(ms(n)), Outcome: Answered})
		}
		return all
	}
	lost := func(n int) Exchange { return Exchange{Start: after(ms(n)), Outcome: TimedOut} }
	const from, to = 1000, 2000
	for _, test := range []struct {
		name string
		all  []Exchange
		want int
	}{
		{"steady", at(900, 1000, 1100, 1200, 1300, 1400, 1500, 1600, 1700, 1800, 1900, 2000), 100},
		{"a gap inside", at(950, 1050, 1550, 1600, 1990), 500},
		{"failures do not end it", append(at(950, 1050, 1900), lost(1200), lost(1500)), 850},
		{"any answer counts, without the agent's too", append(at(1000, 2000), Exchange{Start: after(ms(1500)), Outcome: Answered, Answer: &whoami.Answer{}}), 500},
		{"in any order", at(1990, 1600, 950, 1550, 1050), 500},
		{"twice at one time", at(1000, 1000, 1400, 1400, 1800, 2000), 400},
		{"one that began before", at(700, 1200, 1500, 1900), 500},
		{"one that was over before does not count", at(100, 990, 1100, 1200, 1300, 1400, 1500, 1600, 1700, 1800, 1900), 110},
		{"one that ended as the span began", at(100, 1000, 1300, 1600, 1900), 300},
		{"still open at the end", at(1000, 1200), 800},
		{"closed after the end: until the end", at(1000, 1200, 2500), 800},
		{"one after the end does not count", at(1000, 1300, 1600, 1900, 2000, 9000), 300},
		{"over the whole span", at(900, 2100), 1100},
		{"answers before only", at(500, 900), 1100},
		{"answers after only", at(2100), 1000},
		{"none", nil, 1000},
		{"all failed", []Exchange{lost(1100)}, 1000},
	} {
		if got := Outage(test.all, after(ms(from)), after(ms(to))); got != ms(test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, ms(test.want))
		}
	}
	if got := Outage(at(1000, 1500), after(ms(1500)), after(ms(1500))); got != 0 {
		t.Errorf("a span of no length: %s", got)
	}
}

// The observation of loss lasts 30 s, with a fault after 5 s.
const (
	injectedAt = 5 * time.Second
	endedAt    = 30 * time.Second
)

// loss is hive1's, seen by two clients that ask hive0 and hive2 over UDP in turn;
// down says whether a question gets no answer.
func loss(down func(c, host string, at time.Duration) bool) Loss {
	l := Loss{
		Interval: ms(50), Clients: clients[:2],
		Fault: Fault{
			Kind: HostLoss, Host: "hive1", Led: false, TaskLost: true, Injected: after(injectedAt), Effective: after(injectedAt + ms(100)),
			Noticed: after(injectedAt + ms(15200)), Replaced: after(injectedAt + 21*time.Second), Ended: after(endedAt), Healed: after(time.Minute),
		},
	}
	for _, e := range endpoints() {
		if e.Proto == "udp" && e.Host != "hive1" {
			l.Endpoints = append(l.Endpoints, e)
		}
	}
	n := 0
	for at := time.Duration(0); at < endedAt; at += l.Interval {
		for _, c := range l.Clients {
			x := Exchange{Client: c, Endpoint: l.Endpoints[n%2], Start: after(at), Outcome: Answered, Answer: &whoami.Answer{Task: "task0", Node: "hive0"}}
			if down(c.Name, x.Endpoint.Host, at) {
				x.Outcome, x.Answer = TimedOut, nil
			}
			l.Exchanges = append(l.Exchanges, x)
		}
		n++
	}
	return l
}

// brief is an outage of 4 s that outside-a sees at hive0, and nobody else.
func brief(c, host string, at time.Duration) bool {
	return c == "outside-a" && host == "hive0" && at >= injectedAt+time.Second && at < injectedAt+5*time.Second
}

func never(string, string, time.Duration) bool { return false }

// faultTests are faults that show nothing.
func faultTests(judge func(edit func(f *Fault)) Judgement) []verdictTest {
	return []verdictTest{
		{"unhealthy before", judge(func(f *Fault) { f.Unhealthy = "hive2 is down" }), reports.Invalid, "not healthy before the fault: hive2 is down"},
		{"never injected", judge(func(f *Fault) { f.Injected = time.Time{} }), reports.Invalid, "the fault did not take effect"},
		{"never effective", judge(func(f *Fault) { f.Effective = time.Time{} }), reports.Invalid, "the fault did not take effect"},
		{"not observed", judge(func(f *Fault) { f.Ended = time.Time{} }), reports.Invalid, "nothing was observed after the fault"},
		{"observed before only", judge(func(f *Fault) { f.Ended = f.Injected }), reports.Invalid, "nothing was observed after the fault"},
	}
}

func TestSurvivesLoss(t *testing.T) {
	edit := func(change func(l *Loss)) Judgement {
		l := loss(brief)
		change(&l)
		return SurvivesLoss(l, 0)
	}
	keep := func(l *Loss, which func(x Exchange) bool) {
		l.Exchanges = without(Published{Exchanges: l.Exchanges}, func(x Exchange) bool { return !which(x) }).Exchanges
	}
	gone := func(c, host string, from time.Duration) func(string, string, time.Duration) bool {
		return func(client, h string, at time.Duration) bool {
			return (c == "" || c == client) && (host == "" || h == host) && at >= from
		}
	}
	silentBefore := func(c, host string, at time.Duration) bool {
		return c == "segment" && host == "hive2" && at < injectedAt
	}
	leader := loss(brief)
	leader.Fault.Led = true
	task := loss(brief)
	task.Fault.Kind, task.Fault.Task = TaskLoss, "0123456789abcdef"
	plain := loss(brief)
	for i := range plain.Exchanges {
		plain.Exchanges[i].Answer = nil
	}
	check(t, append([]verdictTest{
		{"an outage", SurvivesLoss(loss(brief), 0), reports.Pass,
			"hive1 lost its power (it did not lead, a task of the service ran there); hive0, hive2 went on answering: longest outage 4.10 s (outside-a at hive0), 40 of 1000 questions lost; the swarm noticed after 15.2 s, all tasks ran again after 21.0 s"},
		{"the leader's", SurvivesLoss(leader, 0), reports.Pass, "it led the swarm"},
		{"a task's", SurvivesLoss(task, 0), reports.Pass, "task 0123456789ab on hive1 was killed (the host did not lead)"},
		{"no outage", SurvivesLoss(loss(never), time.Second), reports.Pass, "longest outage 0.10 s"},
		{"the server is not the agent", SurvivesLoss(plain, 0), reports.Pass, "longest outage 4.10 s"},
		{"within the limit", SurvivesLoss(loss(brief), 5*time.Second), reports.Pass, "4.10 s"},
		{"beyond the limit", SurvivesLoss(loss(brief), 3*time.Second), reports.Fail, "outside-a was without an answer from hive0 for 4.1 s, more than 3s"},
		{"beyond the limit at one host, while the other answers", SurvivesLoss(loss(func(c, h string, at time.Duration) bool {
			return h == "hive2" && at > injectedAt && at < 15*time.Second
		}), 9*time.Second), reports.Fail, "from hive2 for 10.1 s"},
		{"one host stops answering", SurvivesLoss(loss(gone("", "hive2", 10*time.Second)), 0), reports.Fail, "hive2 did not answer outside-a any more"},
		{"one client is left out", SurvivesLoss(loss(gone("segment", "", injectedAt)), 0), reports.Fail, "hive0 did not answer segment any more"},
		{"stops for the last two seconds", SurvivesLoss(loss(gone("", "", endedAt-lastWords)), 0), reports.Fail, "any more"},
		{"lost datagrams at the very end", SurvivesLoss(loss(gone("", "", endedAt-ms(500))), 0), reports.Pass, ""},
		{"silent before", SurvivesLoss(loss(silentBefore), 0), reports.Invalid, "segment → hive2 53/udp had no answer before the fault either"},
		{"a slow pace", edit(func(l *Loss) { l.Interval = ms(100) }), reports.Invalid, "too seldom"},
		{"a client lags", edit(func(l *Loss) {
			n := 0
			keep(l, func(x Exchange) bool { n++; return x.Client.Name != "segment" || n%8 < 4 })
		}), reports.Invalid, "segment asked 10"},
		{"a client gave up", edit(func(l *Loss) {
			keep(l, func(x Exchange) bool { return x.Client.Name != "segment" || x.Start.Before(after(10*time.Second)) })
		}), reports.Invalid, "segment asked 6.6 times a second"},
		{"a client stopped too early", edit(func(l *Loss) {
			keep(l, func(x Exchange) bool { return x.Client.Name != "segment" || x.Start.Before(after(26*time.Second)) })
		}), reports.Invalid, "segment → hive0 53/udp was not asked in the last 2s"},
		{"a client asks after the end only", edit(func(l *Loss) {
			for i := range l.Exchanges {
				l.Exchanges[i].Start = l.Exchanges[i].Start.Add(time.Hour)
			}
		}), reports.Invalid, ""},
		{"a client did not ask", edit(func(l *Loss) { l.Clients = clients }), reports.Invalid, "outside-b asked 0.0 times a second"},
		{"a host was not asked", edit(func(l *Loss) { keep(l, func(x Exchange) bool { return x.Endpoint.Host != "hive2" }) }), reports.Invalid, ""},
		{"one question aborted", edit(func(l *Loss) { outcomeOf(Aborted)(&l.Exchanges[7]) }), reports.Invalid, "1 of 1200 questions could not be put"},
		{"all aborted after the fault", edit(func(l *Loss) {
			for i := range l.Exchanges {
				if l.Exchanges[i].Start.After(l.Fault.Injected) {
					outcomeOf(Aborted)(&l.Exchanges[i])
				}
			}
		}), reports.Invalid, "could not be put"},
		{"nobody asked", edit(func(l *Loss) { l.Exchanges = nil }), reports.Invalid, "nothing was asked"},
		{"no clients", edit(func(l *Loss) { l.Clients = nil }), reports.Invalid, "nothing was asked"},
		{"no endpoints", edit(func(l *Loss) { l.Endpoints = nil }), reports.Invalid, "nothing was asked"},
		{"nothing", SurvivesLoss(Loss{}, 0), reports.Invalid, ""},
	}, faultTests(func(change func(f *Fault)) Judgement { return edit(func(l *Loss) { change(&l.Fault) }) })...))

	m := SurvivesLoss(loss(brief), 0).Measurements
	outages := m["outage_s"].(map[string]float64)
	for what, want := range map[string]float64{"outside-a at hive0": 4.1, "outside-a at hive2": 0.1, "outside-a": 0.1, "segment": 0.05} {
		if outages[what] != want {
			t.Errorf("outage of %s: %v s, want %v", what, outages[what], want)
		}
	}
	unhealed := loss(brief)
	unhealed.Fault.Healed, unhealed.Fault.HealProblem = time.Time{}, "hive1 did not come back"
	if j := SurvivesLoss(unhealed, 0); j.Measurements["heal_problem"] != "hive1 did not come back" || j.Measurements["healed_s"] != nil {
		t.Errorf("not healed, and measured %v", j.Measurements)
	}
	for what, want := range map[string]any{"questions": 1000, "lost": 40, "noticed_s": 15.2, "replaced_s": 21.0, "led": false} {
		if m[what] != want {
			t.Errorf("%s: %v, want %v", what, m[what], want)
		}
	}
}

// fallback is two clients that ask hive1, which is lost, and then the others.
func fallback() Fallback {
	f := Fallback{Fault: Fault{Kind: HostLoss, Host: "hive1", Injected: after(0), Effective: after(ms(100)), Ended: after(time.Minute)}}
	all := endpoints()
	for _, c := range clients[:2] {
		for n := range 3 {
			f.Tries = append(f.Tries, FallbackTry{
				Client: c, Addresses: []string{"hive1", "hive0", "hive2"}, Took: 2*time.Second + ms(10*n),
				Exchanges: []Exchange{
					{Client: c, Endpoint: all[2], Start: after(time.Second), Outcome: TimedOut},
					{Client: c, Endpoint: all[0], Start: after(3 * time.Second), Outcome: Answered, Answer: &whoami.Answer{}},
				},
			})
		}
	}
	return f
}

func TestFallsBack(t *testing.T) {
	edit := func(change func(f *Fallback)) Judgement {
		f := fallback()
		change(&f)
		return FallsBack(f)
	}
	last := func(n int, o Outcome) func(*Fallback) {
		return func(f *Fallback) { outcomeOf(o)(&f.Tries[n].Exchanges[1]) }
	}
	check(t, append([]verdictTest{
		{"falls back", FallsBack(fallback()), reports.Pass, "each of 6 questions of 2 clients that asked it first was answered by another host, in 2.01 s (median; at most 2.02 s)"},
		{"the server is not the agent", edit(func(f *Fallback) { f.Tries[0].Exchanges[1].Answer = nil }), reports.Pass, ""},
		{"the lost host is refused at once", edit(func(f *Fallback) { outcomeOf(Unreachable)(&f.Tries[0].Exchanges[0]) }), reports.Pass, ""},
		{"the third address answers", edit(func(f *Fallback) {
			x := f.Tries[0].Exchanges[1]
			x.Endpoint = endpoints()[4]
			outcomeOf(TimedOut)(&f.Tries[0].Exchanges[1])
			f.Tries[0].Exchanges = append(f.Tries[0].Exchanges, x)
		}), reports.Pass, ""},
		{"no address answers", edit(last(2, Refused)), reports.Fail, "tried hive1, hive0, hive2, and none answered"},
		{"the lost host still answers", edit(func(f *Fallback) {
			f.Tries[0].Exchanges = f.Tries[0].Exchanges[:1]
			f.Tries[0].Exchanges[0].Outcome = Answered
		}), reports.Invalid, "hive1 still answers: the fault did not take effect"},
		{"the lost host answers late, and no other", edit(func(f *Fallback) {
			last(0, TimedOut)(f)
			f.Tries[5].Exchanges[0].Outcome = Answered
		}), reports.Invalid, "the fault did not take effect"},
		{"nobody tried it first", edit(func(f *Fallback) {
			for i := range f.Tries {
				f.Tries[i].Exchanges = f.Tries[i].Exchanges[1:]
			}
		}), reports.Invalid, "never tried the lost host first"},
		{"one client never tried it first", edit(func(f *Fallback) {
			for i := range 3 {
				f.Tries[i].Exchanges = f.Tries[i].Exchanges[1:]
			}
		}), reports.Invalid, "segment never tried the lost host first"},
		{"one address only", edit(func(f *Fallback) {
			for i := range f.Tries {
				f.Tries[i].Addresses, f.Tries[i].Exchanges = []string{"hive1"}, f.Tries[i].Exchanges[:1]
			}
		}), reports.Invalid, "has one address only"},
		{"aborted", edit(last(5, Aborted)), reports.Invalid, "could not be put"},
		{"one failed, another was aborted", edit(func(f *Fallback) { last(0, TimedOut)(f); last(5, Aborted)(f) }), reports.Invalid, "could not be put"},
		{"a try without an exchange", edit(func(f *Fallback) { f.Tries[1].Exchanges = nil }), reports.Invalid, "segment asked nobody"},
		{"no tries", edit(func(f *Fallback) { f.Tries = nil }), reports.Invalid, "nothing was asked"},
		{"nothing", FallsBack(Fallback{}), reports.Invalid, ""},
	}, faultTests(func(change func(f *Fault)) Judgement { return edit(func(f *Fallback) { change(&f.Fault) }) })...))
	if m := FallsBack(fallback()).Measurements; fmt.Sprint(m["took_median_s"], m["took_max_s"], m["tries"]) != "2.01 2.02 6" {
		t.Errorf("measured %v", m)
	}
}
