-- Counts facts, given as a JSON array of objects: those that came with sign 1, those that are no more with sign -1. Gives
-- each key, and whether nothing is left there. Rows are locked in the order of their keys, whoever writes.
INSERT INTO {model}.stay AS known (partition, stage, left_for, days, stays)
SELECT partition, stage, left_for, days, sum(sign * stays)
FROM json_to_recordset(%s) AS fact (sign int, partition int, stage text, left_for text, days int, stays bigint)
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
ON CONFLICT (partition, stage, left_for, days) DO UPDATE SET stays = known.stays + excluded.stays
RETURNING partition, stage, left_for, days, stays = 0
