package sqlite

// SelectDue is the query of a claim, for the test of its plan.
const SelectDue = selectDue

// Schema1 is the first version's, for the test of the upgrade.
const Schema1 = schema1
