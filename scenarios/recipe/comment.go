package recipe

import (
	"strings"
	"unicode/utf8"
)

// Comment is a comment of a file.
type Comment struct {
	Position Position // of the #
	Text     string   // behind the #, without blanks around it
	Alone    bool     // nothing but blanks stands before it in its line
}

// Line is a line of the file without its end, and "" for a line that the file
// does not have. Lines count from 1.
func (r *Recipe) Line(number int) string {
	if number < 1 || number > len(r.lines) {
		return ""
	}
	return r.lines[number-1]
}

// Comments gives the comments of the file in its order, and none of a file that
// is not YAML. It takes time in proportion to the file.
func (r *Recipe) Comments() []Comment {
	if r.root == nil {
		return nil
	}
	s := &commentScanner{file: r.File, lines: r.lines}
	for _, at := range r.texts {
		s.until(at.Line-1, at.Column-1)
		s.skipText()
	}
	s.until(len(s.lines), 0)
	return s.found
}

// commentScanner walks through what stands between quoted and block scalars,
// whose places the YAML parser has told. There a # after a blank is a comment, for
// it ends a plain scalar.
type commentScanner struct {
	file   string
	lines  []string
	line   int // from 0
	offset int // bytes into the line
	found  []Comment
}

// rest is what stands behind the scanner in its line.
func (s *commentScanner) rest() string {
	if s.line >= len(s.lines) {
		return ""
	}
	return s.lines[s.line][min(s.offset, len(s.lines[s.line])):]
}

// until moves forward to a character of a line, collecting comments.
func (s *commentScanner) until(line, column int) {
	for s.line < line && s.line < len(s.lines) {
		s.comment()
		s.line, s.offset = s.line+1, 0
	}
	if s.line == line && s.line < len(s.lines) {
		s.offset = max(s.offset, byteOffset(s.lines[line], column))
	}
}

// byteOffset is the offset of a character of text, both from 0.
func byteOffset(text string, character int) int {
	for offset := range text {
		if character == 0 {
			return offset
		}
		character--
	}
	return len(text)
}

// comment collects the comment in the rest of the line, if there is one.
func (s *commentScanner) comment() {
	text := s.lines[s.line]
	for i := s.offset; i < len(text); i++ {
		if text[i] != '#' || i > 0 && text[i-1] != ' ' && text[i-1] != '\t' {
			continue
		}
		s.found = append(s.found, Comment{
			Position: Position{File: s.file, Line: s.line + 1, Column: utf8.RuneCountInString(text[:i]) + 1},
			Text:     strings.TrimSpace(text[i+1:]),
			Alone:    strings.TrimLeft(text[:i], " \t") == "",
		})
		return
	}
}

// skipText moves behind a quoted or block scalar with its tag and anchor.
func (s *commentScanner) skipText() {
	for s.line < len(s.lines) {
		rest := strings.TrimLeft(s.rest(), " \t")
		s.offset = len(s.lines[s.line]) - len(rest)
		switch {
		case rest == "", rest[0] == '#':
			s.until(s.line+1, 0)
		case rest[0] == '!', rest[0] == '&':
			word, _, _ := strings.Cut(strings.ReplaceAll(rest, "\t", " "), " ")
			s.offset += len(word)
		case rest[0] == '"', rest[0] == '\'':
			s.skipQuoted(rest[0])
			return
		default:
			s.skipBlock()
			return
		}
	}
}

func (s *commentScanner) skipQuoted(quote byte) {
	s.offset++
	for ; s.line < len(s.lines); s.line, s.offset = s.line+1, 0 {
		for text := s.lines[s.line]; s.offset < len(text); s.offset++ {
			switch c := text[s.offset]; {
			case c == '\\' && quote == '"':
				s.offset++
			case c == quote && quote == '\'' && strings.HasPrefix(text[s.offset+1:], "'"):
				s.offset++
			case c == quote:
				s.offset++
				return
			}
		}
	}
}

// skipBlock moves behind a block scalar: to the first line that is indented less
// than its text.
func (s *commentScanner) skipBlock() {
	head, digits := s.lines[s.line], s.rest()
	parent, indent := headIndent(head[:s.offset]), -1
	if i := strings.IndexAny(digits, "123456789 "); i >= 0 && digits[i] != ' ' {
		indent = parent + int(digits[i]-'0')
	}
	for s.until(s.line+1, 0); s.line < len(s.lines); s.line++ {
		text := strings.TrimLeft(s.lines[s.line], " ")
		switch in := len(s.lines[s.line]) - len(text); {
		case text == "":
		case indent < 0 && in > parent:
			indent = in
		case in < max(indent, parent+1):
			return
		}
	}
}

// headIndent is the indentation of the map or list that a block scalar belongs
// to, by what stands before the scalar in its line.
func headIndent(before string) int {
	key := strings.TrimLeft(before, " -?")
	indent := len(before) - len(key)
	if key == "" {
		indent = strings.LastIndexAny(before, "-?")
	}
	return max(0, indent)
}
