package reports

import (
	"regexp"
	"slices"
	"testing"
	"time"
)

func TestWorst(t *testing.T) {
	for _, c := range []struct {
		in   []Verdict
		want Verdict
	}{
		{nil, NotRun},
		{[]Verdict{Pass}, Pass},
		{[]Verdict{Skip, Skip}, Skip},
		{[]Verdict{Skip, Pass, Skip}, Pass},
		{[]Verdict{Pass, NotRun}, NotRun},
		{[]Verdict{NotRun, Invalid, Pass}, Invalid},
		{[]Verdict{Invalid, Fail}, Fail},
		{[]Verdict{Fail, Error, Pass}, Error},
		{[]Verdict{Pass, ""}, Error},
		{[]Verdict{Pass, "passed"}, Error},
	} {
		if got := Worst(c.in); got != c.want {
			t.Errorf("Worst(%v) = %s, want %s", c.in, got, c.want)
		}
		slices.Reverse(c.in)
		if got := Worst(c.in); got != c.want {
			t.Errorf("Worst(%v) = %s, want %s: the order must not matter", c.in, got, c.want)
		}
	}
}

func claims(vs ...Verdict) Scenario {
	s := Scenario{ID: "s", Recipe: "s.yml"}
	for _, v := range vs {
		s.Claims = append(s.Claims, Claim{ID: "family/" + string(v), Verdict: v})
	}
	return s
}

func TestExitCode(t *testing.T) {
	end := t0.Add(time.Minute)
	done := Run{Started: t0, Finished: &end}
	with := func(f func(*Run)) Run { r := done; f(&r); return r }
	broken := claims(Pass)
	broken.Verdict, broken.Reason = Error, "remove: timed out"
	skippedWhole := Scenario{ID: "s", Verdict: Skip, Reason: "no drbd"}
	for name, c := range map[string]struct {
		run       Run
		scenarios []Scenario
		want      int
		verdict   Verdict
	}{
		"pass":                        {done, []Scenario{claims(Pass)}, 0, Pass},
		"pass and skip":               {done, []Scenario{claims(Pass, Skip), claims(Skip)}, 0, Pass},
		"a scenario skipped as whole": {done, []Scenario{claims(Pass), skippedWhole}, 0, Pass},
		"cleanup failed":              {with(func(r *Run) { r.Cleanup = []string{"x"} }), []Scenario{claims(Pass)}, 0, Pass},
		"fail":                        {done, []Scenario{claims(Pass, Fail)}, 1, Fail},
		"invalid":                     {done, []Scenario{claims(Pass, Invalid)}, 1, Invalid},
		"error":                       {done, []Scenario{claims(Pass, Error)}, 1, Error},
		"not-run":                     {done, []Scenario{claims(Pass, NotRun)}, 1, NotRun},
		"unknown verdict":             {done, []Scenario{claims(Pass, "ok")}, 1, Error},
		"no verdict":                  {done, []Scenario{claims(Pass, "")}, 1, Error},
		"no scenario":                 {done, nil, 1, NotRun},
		"no claim":                    {done, []Scenario{claims()}, 1, NotRun},
		"one scenario without claims": {done, []Scenario{claims(Pass), claims()}, 1, NotRun},
		"claims to pass, none there":  {done, []Scenario{{ID: "s", Verdict: Pass}}, 1, NotRun},
		"all skipped":                 {done, []Scenario{claims(Skip), skippedWhole}, 1, Skip},
		"scenario broke":              {done, []Scenario{broken}, 1, Error},
		"unfinished":                  {Run{Started: t0}, []Scenario{claims(Pass)}, 1, NotRun},
		"lab error":                   {with(func(r *Run) { r.Error = "no memory" }), []Scenario{claims(Fail)}, 3, Error},
		"lab error before all":        {Run{Error: "no memory"}, nil, 3, Error},
		"interrupted":                 {with(func(r *Run) { r.Interrupted = true }), []Scenario{claims(Pass)}, 130, NotRun},
		"interrupted with lab error":  {with(func(r *Run) { r.Interrupted = true; r.Error = "x" }), nil, 130, Error},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Result{Run: c.run, Scenarios: c.scenarios}
			for range 2 { // before and after Tally
				if got := r.ExitCode(); got != c.want {
					t.Errorf("ExitCode = %d, want %d", got, c.want)
				}
				if got := r.Verdict(); got != c.verdict {
					t.Errorf("Verdict = %s, want %s", got, c.verdict)
				}
				if mark, text := r.headline(); (mark == Pass) != (c.want == 0) || text == "" {
					t.Errorf("headline = %s %q with exit %d", mark, text, c.want)
				}
				r.Tally()
			}
		})
	}
}

func TestTally(t *testing.T) {
	r := &Result{Totals: Totals{Pass: 99}, Scenarios: []Scenario{claims(Pass, Pass, Skip), claims(Fail, Invalid, Error, NotRun, "?")}}
	r.Scenarios[0].Verdict = Fail // of an earlier tally; its claims say otherwise now
	r.Tally()
	r.Tally()
	if want := (Totals{Pass: 2, Fail: 1, Skip: 1, Invalid: 1, Error: 2, NotRun: 1}); r.Totals != want {
		t.Errorf("totals %+v, want %+v", r.Totals, want)
	}
	if r.Scenarios[0].Verdict != Pass || r.Scenarios[1].Verdict != Error {
		t.Errorf("verdicts %s, %s", r.Scenarios[0].Verdict, r.Scenarios[1].Verdict)
	}
}

func TestHeadline(t *testing.T) {
	end := t0.Add(time.Minute)
	for want, vs := range map[string][]Verdict{
		"Passed: 2 claims hold":                                    {Pass, Pass},
		"Passed: 1 claim holds, 1 skipped":                         {Pass, Skip},
		"Failed: 1 of 2 claims does not hold":                      {Pass, Fail},
		"Failed: 2 of 4 claims do not hold, 2 could not be judged": {Fail, Fail, Error, NotRun},
		"Not proved: 1 pass, 1 invalid":                            {Pass, Invalid},
		"Nothing was shown: every claim was skipped":               {Skip},
		"Nothing was judged: no claims":                            {},
		"Nothing was judged: 2 not-run, 1 skip":                    {NotRun, NotRun, Skip},
	} {
		r := &Result{Run: Run{Finished: &end}, Scenarios: []Scenario{claims(vs...)}}
		if got := r.Headline(); got != want {
			t.Errorf("%v: %q, want %q", vs, got, want)
		}
	}
}

func TestNewRunID(t *testing.T) {
	tokyo := time.FixedZone("JST", 9*3600)
	a, b := NewRunID(t0.In(tokyo)), NewRunID(t0.Add(time.Second))
	if !regexp.MustCompile(`^20261123-045501-[0-9a-f]{4}$`).MatchString(a) {
		t.Errorf("ID %q", a)
	}
	if a >= b {
		t.Errorf("%q is not before %q", a, b)
	}
	if safeName(a) != a {
		t.Errorf("%q is no safe name", a)
	}
}
