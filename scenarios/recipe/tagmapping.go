package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"unicode/utf8"
)

// TagMapping is hive-builder's tag-mapping.json: from the image tag in a
// definition to the tag to use.
type TagMapping map[string]string

// Apply gives the tag to use for tag, and whether the mapping names it. As in
// hive-builder the whole text must match: "nginx" is not "nginx:latest". Apply
// works on a nil mapping.
func (m TagMapping) Apply(tag string) (mapped string, ok bool) {
	if mapped, ok = m[tag]; ok {
		return mapped, true
	}
	return tag, false
}

// With is the mapping with another's tags put over it; neither is changed. It works
// on nil mappings.
func (m TagMapping) With(over TagMapping) TagMapping {
	if len(over) == 0 {
		return m
	}
	out := make(TagMapping, len(m)+len(over))
	maps.Copy(out, m)
	maps.Copy(out, over)
	return out
}

// ParseTagMappingFile reads the tag mapping at path.
func ParseTagMappingFile(path string) (TagMapping, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a tag mapping: %w", err)
	}
	return ParseTagMapping(path, src)
}

// ParseTagMapping reads a tag mapping: one JSON object whose values are strings.
// name stands for the file in positions. On bad input the error is Problems.
func ParseTagMapping(name string, src []byte) (TagMapping, error) {
	p := &mappingParser{file: name, src: src, decoder: json.NewDecoder(bytes.NewReader(src))}
	if len(src) > maxBytes {
		p.complain(0, "the file has more than %d bytes, which is as much as is read", maxBytes)
		return nil, p.complaints.err()
	}
	m := p.parse()
	if err := p.complaints.err(); err != nil {
		return nil, err
	}
	return m, nil
}

type mappingParser struct {
	file       string
	src        []byte
	decoder    *json.Decoder
	complaints complaints
	// What was said last was about this place; the next is counted from there.
	offset int64
	last   Position
}

func (p *mappingParser) complain(offset int64, format string, args ...any) {
	offset = min(offset, int64(len(p.src)))
	if offset < p.offset || !p.last.IsValid() {
		p.offset, p.last = 0, Position{File: p.file, Line: 1, Column: 1}
	}
	between := p.src[p.offset:offset]
	if i := bytes.LastIndexByte(between, '\n'); i >= 0 {
		p.last.Line += bytes.Count(between, []byte("\n"))
		p.last.Column, between = 1, between[i+1:]
	}
	p.last.Column += utf8.RuneCount(between)
	p.offset = offset
	p.complaints.add(Problem{
		File: p.file, Line: p.last.Line, Column: p.last.Column,
		Message: fmt.Sprintf(format, args...),
	})
}

// next gives the next token and where it begins. ok is false after a fault in the
// JSON, which is complained about, and at the end.
func (p *mappingParser) next() (tk json.Token, offset int64, ok bool) {
	offset = p.decoder.InputOffset()
	for offset < int64(len(p.src)) && bytes.IndexByte([]byte(" \t\r\n,:"), p.src[offset]) >= 0 {
		offset++
	}
	tk, err := p.decoder.Token()
	switch {
	case err == nil:
		return tk, offset, true
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		p.complain(int64(len(p.src)), "not JSON: the file ends too early")
	default:
		p.complain(offset, "not JSON: %v", err)
	}
	return nil, offset, false
}

func (p *mappingParser) parse() TagMapping {
	tk, offset, ok := p.next()
	if !ok {
		return nil
	}
	if tk != json.Delim('{') {
		p.complain(offset, "a tag mapping must be a JSON object")
		return nil
	}
	m := make(TagMapping)
	for p.decoder.More() {
		key, keyOffset, ok := p.next()
		if !ok {
			return nil
		}
		from, isString := key.(string)
		if !isString {
			p.complain(keyOffset, "a tag must be a string")
			return nil
		}
		value, valueOffset, ok := p.next()
		if !ok {
			return nil
		}
		to, isTag := value.(string)
		_, twice := m[from]
		switch {
		case twice:
			p.complain(keyOffset, "tag %s is mapped twice", quote(from))
		case from == "":
			p.complain(keyOffset, "an empty tag cannot be mapped")
		}
		if !isTag || to == "" {
			p.complain(valueOffset, "the tag to use for %s must be a string", quote(from))
			if _, nested := value.(json.Delim); nested {
				return nil
			}
		}
		m[from] = to
	}
	if _, _, ok := p.next(); !ok {
		return nil
	}
	if rest := bytes.TrimLeft(p.src[p.decoder.InputOffset():], " \t\r\n"); len(rest) > 0 {
		p.complain(int64(len(p.src)-len(rest)), "not JSON: more text after the object")
	}
	return m
}
