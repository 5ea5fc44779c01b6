package reports

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// The JUnit dialect that Jenkins and GitLab read.
type (
	junitRun struct {
		XMLName xml.Name `xml:"testsuites"`
		Name    string   `xml:"name,attr"`
		junitCounts
		Suites []junitSuite `xml:"testsuite"`
	}
	junitCounts struct {
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Errors   int    `xml:"errors,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Time     string `xml:"time,attr"` // seconds
	}
	junitSuite struct {
		Name string `xml:"name,attr"`
		junitCounts
		Timestamp  string          `xml:"timestamp,attr,omitempty"`
		Properties []junitProperty `xml:"properties>property,omitempty"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitOutcome `xml:"failure"`
		Error   *junitOutcome `xml:"error"`
		Skipped *junitOutcome `xml:"skipped"`
		Out     string        `xml:"system-out,omitempty"`
	}
	junitOutcome struct {
		Message string `xml:"message,attr,omitempty"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// JUnit renders r as JUnit XML: a suite per scenario, a case per claim. Invalid
// is an error of type "invalid", not-run is skipped. What is wrong with a
// scenario or the run as a whole (no claim tells it) is a case of its own, so
// that a run that exits other than 0 for it is not shown green.
// Terminal sequences are taken out, characters that XML 1.0 forbids become U+FFFD.
func JUnit(r *Result) ([]byte, error) {
	out := junitRun{Name: "hiveproof"}
	if s, ok := junitRunSuite(r); ok {
		out.Suites = append(out.Suites, s)
	}
	for i := range r.Scenarios {
		out.Suites = append(out.Suites, junitScenario(r, &r.Scenarios[i]))
	}
	total := 0.0
	for i := range out.Suites {
		s := &out.Suites[i]
		for _, c := range s.Cases {
			s.Tests++
			switch {
			case c.Failure != nil:
				s.Failures++
			case c.Error != nil:
				s.Errors++
			case c.Skipped != nil:
				s.Skipped++
			}
		}
		out.Tests += s.Tests
		out.Failures += s.Failures
		out.Errors += s.Errors
		out.Skipped += s.Skipped
	}
	for _, s := range r.Scenarios {
		total += finiteOr0(s.DurationS)
	}
	if r.Run.Finished != nil {
		total = r.Run.Finished.Sub(r.Run.Started).Seconds()
	}
	out.Time = junitTime(total)

	var b bytes.Buffer
	b.WriteString(xml.Header)
	enc := xml.NewEncoder(&b)
	enc.Indent("", "  ")
	if err := enc.Encode(out); err != nil {
		return nil, fmt.Errorf("encode JUnit XML: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

func junitTime(s float64) string { return fmt.Sprintf("%.3f", finiteOr0(s)) }

// junitRunSuite is about the run as a whole; there is none if nothing is wrong with it.
func junitRunSuite(r *Result) (junitSuite, bool) {
	s := junitSuite{Name: "hiveproof", junitCounts: junitCounts{Time: "0.000"}, Properties: junitProperties(r)}
	add := func(name, typ, message string) {
		s.Cases = append(s.Cases, junitCase{Class: "hiveproof", Name: name, Time: "0.000",
			Error: &junitOutcome{Message: cleanText(message), Type: typ, Text: cleanText(message)}})
	}
	if r.Run.Error != "" {
		add("lab", "lab", r.Run.Error)
	}
	if r.Run.Interrupted {
		add("run", "interrupted", "The run was interrupted before it was complete.")
	} else if r.Run.Finished == nil {
		add("run", "unfinished", unfinished)
	}
	if len(s.Cases) == 0 && r.ExitCode() != ExitPassed {
		if v := r.Verdict(); v == Skip || v == NotRun {
			add("run", "nothing", "No claim was shown to hold: nothing ran, or all of it was skipped.")
		}
	}
	if len(r.Run.Cleanup) > 0 {
		s.Cases = append(s.Cases, junitCase{Class: "hiveproof", Name: "cleanup", Time: "0.000",
			Skipped: &junitOutcome{Message: "not everything could be cleaned up"}, Out: cleanText(strings.Join(r.Run.Cleanup, "\n"))})
	}
	return s, len(s.Cases) > 0
}

func junitScenario(r *Result, sc *Scenario) junitSuite {
	s := junitSuite{Name: cleanText(sc.ID), junitCounts: junitCounts{Time: junitTime(sc.DurationS)}, Properties: junitProperties(r)}
	if !r.Run.Started.IsZero() {
		s.Timestamp = r.Run.Started.UTC().Format("2006-01-02T15:04:05")
	}
	s.Properties = append(s.Properties, junitProperty{"scenario.recipe", cleanText(sc.Recipe)})
	if sc.Title != "" {
		s.Properties = append(s.Properties, junitProperty{"scenario.title", cleanText(sc.Title)})
	}
	for i, n := range sc.Notes {
		s.Properties = append(s.Properties, junitProperty{fmt.Sprintf("scenario.note.%d", i+1), cleanText(n)})
	}
	if sc.Reason != "" || len(sc.Claims) == 0 {
		s.Cases = append(s.Cases, junitVerdict(junitCase{Class: s.Name, Name: "(scenario)"}, sc.verdict(), sc.Reason, ""))
	}
	for i := range sc.Claims {
		c := &sc.Claims[i]
		name := c.ID
		if c.Service != "" {
			name += " [" + c.Service + "]"
		}
		jc := junitCase{Class: s.Name, Name: cleanText(name), Time: junitTime(c.DurationS), Out: claimText(c)}
		s.Cases = append(s.Cases, junitVerdict(jc, c.Verdict, c.Reason, sampleText(c)))
	}
	return s
}

func junitVerdict(c junitCase, v Verdict, reason, detail string) junitCase {
	if c.Time == "" {
		c.Time = "0.000"
	}
	o := &junitOutcome{Message: oneLine(reason), Type: string(v), Text: cleanText(reason)}
	if detail != "" {
		o.Text += "\n" + detail
	}
	switch v {
	case Pass:
	case Fail:
		c.Failure = o
	case Skip, NotRun:
		if v == NotRun {
			o.Message = strings.TrimSuffix("not run: "+o.Message, ": ")
		}
		c.Skipped = &junitOutcome{Message: o.Message}
	case Invalid, Error:
		c.Error = o
	default:
		o.Type = string(Error)
		o.Message = fmt.Sprintf("unknown verdict %q: %s", v, o.Message)
		c.Error = o
	}
	return c
}

func junitProperties(r *Result) []junitProperty {
	ps := []junitProperty{
		{"run.id", r.Run.ID},
		{"hiveproof.version", r.Run.Version},
		{"lab.provider", r.Lab.Provider},
	}
	if r.Lab.Accel != "" {
		ps = append(ps, junitProperty{"lab.accel", r.Lab.Accel})
	}
	for _, h := range r.Lab.Hosts {
		ps = append(ps, junitProperty{"lab.host." + h.Name, strings.TrimSpace(h.Address + " " + h.Role)})
	}
	for _, k := range sortedKeys(r.Lab.Versions) {
		ps = append(ps, junitProperty{"lab.version." + k, r.Lab.Versions[k]})
	}
	for i := range ps {
		ps[i].Name, ps[i].Value = cleanText(ps[i].Name), cleanText(ps[i].Value)
	}
	return ps
}

// claimText is the claim, its reason and figures as lines of text.
func claimText(c *Claim) string {
	var b strings.Builder
	line := func(k, v string) {
		if v != "" {
			fmt.Fprintf(&b, "%s: %s\n", k, v)
		}
	}
	line("claim", c.Text)
	line("guide", c.Guide)
	line("reason", c.Reason)
	for _, k := range sortedKeys(c.Measurements) {
		line(k, flat(generic(c.Measurements[k])))
	}
	for _, e := range c.Evidence {
		line("evidence", e.Path)
	}
	return cleanText(b.String())
}

// sampleText is the samples that contradict the claim, a line each.
func sampleText(c *Claim) string {
	var lines []string
	for _, s := range c.Samples {
		if s.Counter {
			lines = append(lines, oneLine(s.String()))
		}
	}
	return strings.Join(lines, "\n")
}

// String is the sample as a sentence: "hive2 -> 192.0.2.1:53/udp: answered, saw 10.0.0.3, by web.1 on hive1".
func (s Sample) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s -> %s: %s", s.Client, s.Target, s.Outcome)
	if s.Seen != "" {
		b.WriteString(", container saw " + s.Seen)
	}
	if s.Server != "" {
		b.WriteString(", answered by " + s.Server)
	}
	return b.String()
}
