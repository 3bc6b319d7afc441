import Testing

/// `#expect` for conditions that change something on the way, which the macro cannot take.
func check(_ condition: Bool, _ comment: Comment? = nil, at place: SourceLocation = #_sourceLocation) {
  #expect(condition, comment, sourceLocation: place)
}
