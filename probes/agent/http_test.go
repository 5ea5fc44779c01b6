package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

// get asks with the session's cookie, if there is one.
func get(t *testing.T, url, session string) (*http.Response, whoami.Answer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if session != "" {
		req.AddCookie(&http.Cookie{Name: whoami.SessionCookie, Value: session})
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a whoami.Answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatalf("%s: %s: %v", url, resp.Status, err)
	}
	return resp, a
}

func TestSessions(t *testing.T) {
	_, at := start(t, nil, "http:0/tcp,http:0/tcp")
	_, elsewhere := start(t, nil, "http:0/tcp")
	resp, first := get(t, "http://"+at[0]+"/a", "")
	cookies := resp.Cookies()
	if len(cookies) != 1 || cookies[0].Name != whoami.SessionCookie || cookies[0].Value != first.Session || cookies[0].Path != "/" || !cookies[0].HttpOnly {
		t.Fatalf("cookies %v with the answer %+v", cookies, first)
	}
	if first.Session == "" || first.Visits != 1 {
		t.Errorf("a session begins as %q with %d visits", first.Session, first.Visits)
	}
	if _, other := get(t, "http://"+at[0]+"/a", ""); other.Session == first.Session {
		t.Error("two visitors share a session")
	}
	for i, test := range []struct {
		at, path, brings, session string
		visits                    int
		cookie                    bool
	}{
		{at[0], "/b", first.Session, first.Session, 2, false},
		{at[1], "/", first.Session, first.Session, 3, false}, // another port of the same container
		{elsewhere[0], "/", first.Session, first.Session, 1, false},
		{elsewhere[0], "/", first.Session, first.Session, 2, false},
		{at[0], whoami.Path, first.Session, "", 0, false},
		{at[0], whoami.Path, "", "", 0, false},
		{at[0], "/", first.Session, first.Session, 4, false},
		{at[0], "/", "brought", "brought", 1, false},
		{at[0], "/", strings.Repeat("x", maxSessionID+1), "*", 1, true},
	} {
		resp, a := get(t, "http://"+test.at+test.path, test.brings)
		if a.Visits != test.visits || a.Session != test.session && test.session != "*" || (len(resp.Cookies()) > 0) != test.cookie {
			t.Errorf("%d: session %q, %d visits, cookies %v; want %+v", i, a.Session, a.Visits, resp.Cookies(), test)
		}
		if test.session == "*" && (a.Session == "" || a.Session == test.brings) {
			t.Errorf("%d: session %q", i, a.Session)
		}
	}
}

// Visitors without a cookie, such as other probes, must not fill the memory.
func TestSessionsBounded(t *testing.T) {
	var s sessions
	for i := range maxSessions + 10 {
		s.visit(fmt.Sprint(i))
	}
	if len(s.visits) != maxSessions || len(s.begun) != maxSessions {
		t.Errorf("%d sessions, %d IDs", len(s.visits), len(s.begun))
	}
	if oldest, kept := s.visit("9"), s.visit("11"); oldest != 1 || kept != 2 {
		t.Errorf("visits %d of one that had to go, %d of one that stayed", oldest, kept)
	}
}
