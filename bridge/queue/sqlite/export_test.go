package sqlite

// SelectDue is the query of a claim, for the test of its plan.
const SelectDue = selectDue
